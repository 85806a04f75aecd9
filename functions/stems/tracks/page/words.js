// Numbers and times as people read them.

/** 225 → "3:45"; 3725 → "1:02:05". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** 225 → "3 minutes 45 seconds", as a screen reader should say a place in a song. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 3600), "hour"],
    [Math.floor(whole / 60) % 60, "minute"],
    [whole % 60, "second"],
  ];
  const said = parts.filter(([count]) => count).map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`);
  return said.join(" ") || "0 seconds";
}

/** Bytes as "1.2 MB". */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 999.5 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes.toFixed(unit && bytes < 99.5 ? 1 : 0)} ${units[unit]}`;
}

/** Seconds to wait, as rough as they are known. */
export function about(seconds) {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3300) return `about ${Math.round(seconds / 60) || 1} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** An RFC 3339 time as "2 hours ago"; beyond a month as a date. */
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  const units = [
    [60, "second"],
    [60, "minute"],
    [24, "hour"],
    [30, "day"],
  ];
  let value = seconds;
  for (const [length, unit] of units) {
    if (Math.abs(value) < length) return unit === "second" ? "just now" : relative.format(Math.round(value), unit);
    value /= length;
  }
  return new Date(time).toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });
}

/** A linear gain as decibels. */
export function decibels(gain) {
  return gain > 0 ? `${(20 * Math.log10(gain)).toFixed(1)} dB` : "silent";
}

const ORDER = ["vocals", "drums", "bass", "guitar", "piano", "other"];

/** Return the names of stems, each once, in the order that people look for them. */
export function inOrder(stems) {
  const rank = (stem) => (ORDER.includes(stem) ? ORDER.indexOf(stem) : ORDER.length);
  return [...new Set(stems)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** "mp3", "320" → "320 kbit/s"; what a file was made at, or can be. */
export function qualityName(format, quality) {
  if (format === "mp3") return /^\d+$/.test(quality) ? `${quality} kbit/s` : `${quality.toUpperCase()}, variable`;
  return quality.endsWith("f") ? `${quality.slice(0, -1)} bit float` : `${quality} bit`;
}

/** "no_vocals" → "No vocals". */
export function stemName(stem) {
  const words = stem.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/** A file's name without its extension, which says nothing of the stems. */
export function songName(name) {
  return name.replace(/\.[A-Za-z0-9]{2,4}$/, "") || name;
}
