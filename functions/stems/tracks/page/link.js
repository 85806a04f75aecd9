// What the address says behind its #: a song, a mix, a loop, a place. It never leaves the browser unasked.

/** Read the address: {song, mix, loop: [seconds, seconds] or null, at: seconds}; song is null on the first page. */
export function readLink(hash = location.hash) {
  const given = new URLSearchParams(hash.slice(1));
  const song = given.get("song") ?? "";
  const loop = (given.get("loop") ?? "").match(/^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/);
  return {
    song: /^[0-9a-f]{64}$/.test(song) ? song : null,
    mix: given.get("mix") ?? "",
    loop: loop ? [Number(loop[1]), Number(loop[2])] : null,
    at: Math.max(0, Number(given.get("at")) || 0),
  };
}

/** Make what readLink reads; parts that are empty are left out. */
export function makeLink({ song, mix, loop, at }) {
  const parts = [`song=${song}`];
  if (mix) parts.push(`mix=${mix}`);
  if (loop) parts.push(`loop=${loop.map((seconds) => seconds.toFixed(2)).join("-")}`);
  if (at) parts.push(`at=${at.toFixed(1)}`);
  return `#${parts.join("&")}`;
}
