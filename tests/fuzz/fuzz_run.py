"""``make fuzz``: every target for some seconds, guided by coverage where atheris is installed.

Inputs that reach something new are kept in ``.fuzz/TARGET`` for the next time. One that a target fails on is printed as
a line for ``fuzz_cases.py``, where it stays as a test when the defect is mended. Without atheris (it has wheels for
Linux on x86-64) inputs are put together at random from the seeds and their words.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
KEPT = HERE.parent.parent / ".fuzz"
#: An input that needs longer than these seconds is a defect, too; so is one that needs more than these MiB.
SLOWEST, LARGEST = 10, 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=…", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60, help="for each target (60)")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=None, help="of the random numbers; another one each time")
    parser.add_argument("--random", action="store_true", help="do without atheris")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    guided = find_spec("atheris") is not None and not options.random
    if options.child:
        run = fuzz_guided if guided else fuzz_at_random
        return run(options.target[0], options.seconds, seed)
    names = options.target or target_names()
    failed = [name for name in names if fuzz_one(name, options.seconds, seed, guided=guided)]
    print(f"{len(names)} targets, {'guided by coverage' if guided else 'at random'}, seed {seed}:", end=" ")
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


def target_names() -> list[str]:
    from fuzz_targets import TARGETS

    return list(TARGETS)


def fuzz_one(name: str, seconds: float, seed: int, *, guided: bool) -> bool:
    """Fuzz a target in a process of its own, since libFuzzer ends the one that it runs in. Whether it failed."""
    (KEPT / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(seconds), "--target", name, "--seed", str(seed), "--child"]
    run = subprocess.run(
        command + ([] if guided else ["--random"]), capture_output=True, text=True, errors="replace", check=False
    )
    output = run.stdout + run.stderr
    told = [line for line in output.splitlines() if line.startswith(("CASE ", "ran ", "Done ", "stat::number_of"))]
    print(f"{name:16}", "; ".join(told) if told else "", flush=True)
    if run.returncode:
        lines = [line for line in output.splitlines() if not line.startswith(("INFO: ", "WARNING: ", "#", "0x"))]
        print("\n".join(lines)[-4000:], flush=True)
    return run.returncode != 0


def told_of(name: str, data: bytes) -> None:
    """What to do with an input that a target fails on."""
    print(f"CASE for fuzz_cases.py: ({name!r}, {data!r}),", flush=True)


def fuzz_at_random(name: str, seconds: float, seed: int) -> int:
    """Inputs from the seeds and their words, until the time is over."""
    from fuzz_targets import TARGETS

    target, random, count = TARGETS[name], Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(target.seeds, target.words, random)
        try:
            target.check(data)
        except BaseException:
            told_of(name, data)
            raise
        count += 1
    print(f"ran {count} inputs")
    return 0


def mutated(seeds: list[bytes], words: list[bytes], random: Random) -> bytes:
    """A seed, changed in one to six places."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(data))
        to = min(len(data), at + random.choice((0, 0, 1, 1, 2, 5, 20)))
        match random.randrange(5):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:to] = random.randbytes(random.choice((1, 1, 2, 4)))
            case 2:
                other = random.choice(seeds)
                begin = random.randint(0, len(other))
                data[at:to] = other[begin : begin + random.choice((5, 20, 200))]
            case 3 if data:
                data[at:at] = data[at:to] * random.choice((1, 2, 50))
            case _:
                data[at:to] = random.choice(words)
    return bytes(data)


def fuzz_guided(name: str, seconds: float, seed: int) -> int:
    """libFuzzer, by atheris: it counts branches in Python, and keeps what reaches new ones."""
    import atheris

    with atheris.instrument_imports(include=["stickyproxy", "autobahn.websocket.protocol", "tomllib"]):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    kept = KEPT / name
    for number, data in enumerate(target.seeds):
        (kept / f"seed-{number}").write_bytes(data)
    words = "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)
    (KEPT / f"{name}.dict").write_text(words)

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except BaseException:
            told_of(name, data)
            raise

    arguments = [
        *("fuzz", str(kept), f"-max_total_time={max(1, round(seconds))}", f"-seed={seed & 0x7FFFFFFF}"),
        *(f"-dict={KEPT / name}.dict", f"-timeout={SLOWEST}", f"-rss_limit_mb={LARGEST}", "-max_len=4096"),
        *(f"-artifact_prefix={KEPT}/{name}-", "-print_final_stats=1"),
    ]
    atheris.Setup(arguments, check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    os.chdir(HERE)
    sys.path.insert(0, str(HERE))
    sys.exit(main())
