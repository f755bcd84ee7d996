#!/bin/sh
# Installs the one wheel in a folder into a fresh environment and uses it outside the checkout.
# usage: check.sh PYTHON DIST
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "$0")" && pwd)
wheel=$(ls "$(cd "$2" && pwd)"/*.whl)
case $wheel in
*-cp311-abi3-*.whl) ;;
*) echo "expected a wheel for the stable ABI of Python 3.11 and one platform (got $(basename "$wheel"))" >&2 && exit 1 ;;
esac
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
cd "$away"
"$python" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$here/../../constraints.txt" "$wheel"
cp "$here/use_it.py" .
env/bin/python -I use_it.py
# A type checker finds all of the package, and takes losses that are written as the README has them.
cp "$here/own_loss.py" .
"$python" -m mypy --strict --python-executable env/bin/python own_loss.py
# Without its extra the command says what is missing, and exits 2.
status=0
env/bin/unilossseg conformance run 2> message || status=$?
test "$status" = 2
grep -q "unilossseg\[report\]" message
env/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$here/../../constraints.txt" "$wheel[report]"
env/bin/unilossseg conformance run --quick --out report
test -s report/index.html
test -s report/results.jsonl
echo "the wheel works outside the checkout"
