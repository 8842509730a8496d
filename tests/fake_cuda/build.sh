#!/bin/bash
# Build a Python with a pretended CUDA GPU in DIR (README.md): bash build.sh DIR
# An existing DIR/venv is used as it is. PYTHON: the Python that makes a new one (3.11 is tried). Needs gcc and bash.
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
[ $# = 1 ] || { echo "usage: build.sh DIR" >&2; exit 2; }
dir="$(realpath -m -- "$1")"
[[ $dir != *[[:space:]:]* ]] || { echo "$dir: LD_PRELOAD cannot have a path with spaces or colons" >&2; exit 2; }
mkdir -p "$dir"
python="$dir/venv/bin/python"

if [ ! -e "$dir/venv" ]; then
  "${PYTHON:-python3}" -m venv "$dir/venv"
  # Three equals signs: the CUDA build is called just 2.13.0 in the index; two would also take a local 2.13.0+cpu.
  "$python" -m pip install --no-cache-dir 'torch===2.13.0' numpy
fi
version="$("$python" -c 'import torch; print(torch.__version__)' || true)"
[ "$version" = 2.13.0+cu130 ] || { echo "$dir/venv has torch '$version', not 2.13.0+cu130: remove it, try again" >&2; exit 1; }

mkdir -p "$dir/lib" "$dir/bin" "$dir/site" "$dir/src"
names="$(grep -o 'cublas[A-Z][A-Za-z0-9_]*(' "$here/cublas.c" | tr -d '(')"
{ cat "$here/cublas.c"; grep -vxF "$names" "$here/cublas.txt" | sed 's/.*/int &() { return launch(); }/'; } > "$dir/src/blas.c"
headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/include"
compile() { "${CC:-gcc}" -O1 -fPIC -shared -I"$headers" -I"$here" "$@"; }
compile "$here/runtime.c" -Wl,-soname,libcudart.so.13 -o "$dir/lib/libcudart.so.13"
compile "$here/driver.c" -Wl,-soname,libcuda.so.1 -o "$dir/lib/libcuda.so.1"
compile "$dir/src/blas.c" -o "$dir/lib/libfakeblas.so"
ln -sf libcuda.so.1 "$dir/lib/libcuda.so" # what Triton links its launchers with

install -m 755 "$here/nvidia-smi" "$dir/bin/nvidia-smi"
install -m 644 "$here/sitecustomize.py" "$dir/site/sitecustomize.py"
cat > "$dir/python" <<'WRAPPER'
#!/bin/bash
# Python with the pretended CUDA. Its child processes inherit it, since it is all in the environment.
here="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
export LD_PRELOAD="$here/lib/libcudart.so.13:$here/lib/libfakeblas.so${LD_PRELOAD:+:$LD_PRELOAD}"
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" TRITON_LIBCUDA_PATH="$here/lib"
export PYTHONPATH="$here/site${PYTHONPATH:+:$PYTHONPATH}" FAKE_SHM="${FAKE_SHM:-$here/gpu.shm}"
exec "$here/venv/bin/python" "$@"
WRAPPER
chmod 755 "$dir/python"
"$dir/python" -c 'import torch; print(torch.cuda.get_device_name(0), torch.relu(torch.ones(4, device="cuda")).tolist())'
