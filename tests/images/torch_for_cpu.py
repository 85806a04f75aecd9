"""Make a wheel of torch for CPUs of the installed one for graphics cards, where torch's own index cannot be reached.

    python tests/images/torch_for_cpu.py FOLDER      then TORCH_INDEX=<address of FOLDER> make images

NVIDIA's libraries, 3 GB that torch is linked with and that a CPU never calls, are replaced with empty ones. Such a
wheel is for trying the images out, not for others. Needs cc and readelf.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

# Called by nothing before a graphics card is found.
EMPTIED = ("cublas", "cublasLt", "cufft", "cusparse", "cusparseLt", "nccl", "nvrtc", "nvshmem_host")
# Asked whether there is one.
KEPT = ("cudart", "cudnn", "cufile", "cupti")
LEFT_OUT = ("torch/include/", "torch/lib/libtorch_cuda_linalg.so", "torch/lib/libcaffe2_nvrtc.so")
OF_GRAPHICS_CARDS = ("Requires-Dist: cuda", "Requires-Dist: nvidia", "Requires-Dist: triton")


def symbols(library: Path, *, defined: bool) -> Iterator[tuple[str, str]]:
    """Yield (name@version, kind) of what a library defines, or wants of others."""
    listed = subprocess.run(["readelf", "-W", "--dyn-syms", library], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        words = line.split()
        if len(words) >= 8 and words[0][:-1].isdecimal() and (words[6] != "UND") == defined:
            yield words[7].replace("@@", "@"), words[3]


def empty(library: Path, wanted: set[str], out: Path) -> Path:
    """Make a library of the same name that defines what is wanted: functions that say 1, an error in all of these."""
    mine = {name: kind for name, kind in symbols(library, defined=True) if name in wanted}
    versions: dict[str, list[str]] = {}
    code = []
    for full, kind in mine.items():
        name, _, version = full.partition("@")
        versions.setdefault(version, []).append(name)
        code.append(f"int {name}(void) {{ return 1; }}" if kind == "FUNC" else f"char {name}[4096];")
    source, script, made = out / "empty.c", out / "versions", out / library.name
    source.write_text("\n".join(code))
    nodes = [f"{version} {{ global: {'; '.join(names)}; }};" for version, names in versions.items() if version]
    script.write_text("\n".join(nodes))
    options = [f"-Wl,--version-script={script}"] if nodes else []
    command = ["cc", "-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{library.name}", *options]
    subprocess.run([*command, "-o", made, source], check=True)
    return made


def contents(torch: Distribution, scratch: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Yield the files of the wheel."""
    site = Path(str(torch.locate_file("")))
    lib = site / "torch" / "lib"
    wanted = {name for library in lib.glob("*.so") for name, _ in symbols(library, defined=False)}
    for name in EMPTIED + KEPT:
        (library,) = site.glob(f"nvidia/*/lib/lib{name}.so.*[0-9]")
        yield f"torch/lib/{library.name}", library if name in KEPT else empty(library, wanted, scratch)
    for file in torch.files or ():
        name = str(file)
        if name.startswith("..") or name.startswith(LEFT_OUT) or name.endswith((".pyc", "RECORD", "INSTALLER")):
            continue
        if name.endswith("dist-info/METADATA"):
            lines = (site / file).read_text().splitlines()
            yield name, "\n".join(line for line in lines if not line.startswith(OF_GRAPHICS_CARDS)).encode()
        elif name == "torch/version.py":
            cuda = "cuda: Optional[str] = "
            yield name, (site / file).read_text().replace(f"{cuda}'", f"{cuda}None  # '").encode()
        else:
            yield name, site / file


def main(folder: Path) -> None:
    """Write folder/torch/<wheel>."""
    torch = distribution("torch")
    (tag,) = [line.split()[1] for line in (torch.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    target = folder / "torch" / f"torch-{torch.version}-{tag}.whl"
    target.parent.mkdir(parents=True, exist_ok=True)
    names = []
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(target, "w") as wheel:
        for name, content in contents(torch, Path(scratch)):
            names.append(name)
            if isinstance(content, bytes):
                wheel.writestr(name, content)
            else:
                wheel.write(content, name)
        record = f"torch-{torch.version}.dist-info/RECORD"
        wheel.writestr(record, "".join(f"{name},,\n" for name in [*names, record]))
    print(f"{target}  {target.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
