#!/usr/bin/env bash
# The proof on a GPU: kernels, whole steps and short trainings against the CPU and PyTorch, NVIDIA's sanitizer, and
# speed beside PyTorch.
#
#   tests/gpu/run.sh build                 with Rust: two programs into target/gpu, for any x86-64 Linux with a driver
#   tests/gpu/run.sh --compile-only sm_90  there or here, without a GPU: what NVRTC will be asked for, into its cache
#   tests/gpu/run.sh --right               on a GPU, without Rust: whether it is right, in five minutes
#   tests/gpu/run.sh --fast --models tiny:128 --jobs pretrain      how fast one model and job are, in five minutes
#   tests/gpu/run.sh                       both, in ten
#   tests/gpu/run.sh --kernels --passes    some parts; a number after a flag is the part's budget in seconds
#   tests/gpu/run.sh --rehearse            without a GPU: every line of Python on tiny sizes, for no figures
#
# Whatever part fails, the others run; the exit status is 0 if what ran was right. A part stops at its budget.
# docs/gpu.md says what each proves, and what the machine has to have.
#
# CONVNEXT_GPU_PROGRAMS  where the two programs are; target/gpu if not set
# CONVNEXT_GPU_PYTHON    the Python; python3 if not set
# XDG_CACHE_HOME         where what NVRTC compiled is kept; beside the programs if not set, so that it is carried with them
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
target=${CARGO_TARGET_DIR:-$root/target}
programs=${CONVNEXT_GPU_PROGRAMS:-$target/gpu}
python=${CONVNEXT_GPU_PYTHON:-python3}

build() {
    cd "$root"
    cargo build --release --package convnext-tests --bin gpu "$@"
    local kernels
    kernels=$(cargo test --release --package convnext-cuda --test kernels --no-run --message-format json "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    mkdir -p "$programs"
    cp "$target/release/gpu" "$programs/gpu"
    cp "$kernels" "$programs/kernels"
    strip "$programs/gpu" "$programs/kernels"
    ls -l "$programs/gpu" "$programs/kernels"
    if command -v objdump >/dev/null; then
        echo "needs: $(objdump -T "$programs/gpu" "$programs/kernels" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1) or newer"
    fi
}

# The folders of NVRTC and cuBLASLt: those of the Python's PyTorch, else those of CUDA. The first is a folder of links
# without numbers in their names, since such a name is taken first wherever it is: CUDA's folder has it, wheels do not.
libraries() {
    "$python" - "$1" <<'END'
import sys
from pathlib import Path

links = Path(sys.argv[1])
folders = [folder for entry in sys.path for folder in sorted(Path(entry or ".").glob("nvidia/*/lib"))]
folders += [Path("/usr/local/cuda/lib64")]
used = [links]
links.mkdir(parents=True, exist_ok=True)
for name in ["libnvrtc.so", "libcublasLt.so"]:
    (links / name).unlink(missing_ok=True)
    for folder in folders:
        if there := sorted(folder.glob(f"{name}*")):
            (links / name).symlink_to(there[0])
            used += [] if folder in used else [folder]
            break
print(":".join(map(str, used)))
END
}

if [ "${1:-}" = build ]; then
    shift
    build "$@"
    exit
fi
for program in gpu kernels; do
    if [ ! -x "$programs/$program" ]; then
        echo "no program at $programs/$program: tests/gpu/run.sh build, where there is Rust" >&2
        exit 2
    fi
done
CONVNEXT_GPU_PROGRAMS=$(cd "$programs" && pwd)
CONVNEXT_GPU_LIBRARIES=$(libraries "${TMPDIR:-/tmp}/convnext-gpu/libraries")
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$CONVNEXT_GPU_PROGRAMS/cache}
# What torch.compile makes, and Triton's kernels, are kept for the next run.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/convnext-gpu/inductor}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-${TMPDIR:-/tmp}/convnext-gpu/triton}
# Threads that wait do not spin: on a machine that others use too, PyTorch's CPU side is many times as fast so.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export CONVNEXT_GPU_PROGRAMS CONVNEXT_GPU_LIBRARIES PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec "$python" "$here/prove.py" "$@"
