"""lstmd import reads in a sandbox. The tests show what a parser can do there after an attacker has taken it over, and that
sound imports work as before."""

import json
import os
import pathlib
import subprocess

import pytest

import attack
import kernel

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.path.abspath(os.environ.get("LSTMD", str(ROOT / "build/lstmd")))
DATA = ROOT / "tests/golden/data"
SHARED = pathlib.Path(os.environ.get("LSTMD_SHARED", ROOT / "../shared")) / "data/checkpoints"


def run(*arguments, environment=(), **options):
    return subprocess.run([LSTMD, "import", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **dict(environment)}, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Skips the test if this build or this kernel has no whole sandbox. The skip says so."""
    directory = tmp_path_factory.mktemp("whole")
    tokens = DATA / "torch/vocabulary.json"
    done = run(DATA / "torch/lstm_tied.pt", "--out", directory / "m", "--vocabulary", tokens, "--sandbox", "require")
    if "there is no sandbox" in done.stderr:
        pytest.skip(f"NOT TESTED: {done.stderr}")
    assert done.returncode == 0, done.stderr


def test_a_parser_that_was_taken_over_can_do_nothing(whole, tmp_path):
    file = attack.write_archive(tmp_path / "a.keras")
    done = run(file, "--out", tmp_path / "m", environment=attack.environment(tmp_path))
    assert attack.results(done.stderr) == dict.fromkeys(attack.ATTEMPTS, False), done.stderr
    assert done.returncode == 1 and not (tmp_path / "spoiled").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "attack.c", "attack.so"]


def test_the_attack_is_one_where_there_is_no_sandbox(whole, tmp_path):
    file = attack.write_archive(tmp_path / "a.keras")
    done = run(file, "--out", tmp_path / "m", "--sandbox", "off", environment=attack.environment(tmp_path))
    worked = attack.results(done.stderr)
    assert [what for what in worked if worked[what]] == ["reading", "writing", "network", "signals", "code", "process"]
    assert (tmp_path / "spoiled").exists()


LACKING = {"Landlock": kernel.LANDLOCK, "seccomp": kernel.SECCOMP}


@pytest.mark.parametrize("what", LACKING)
def test_what_the_kernel_does_not_grant_is_noted_or_refused(whole, what, tmp_path):
    arguments = [DATA / "torch/lstm_tied.pt", "--vocabulary", DATA / "torch/vocabulary.json"]
    for sandbox, says in (("auto", "note: there was no complete sandbox: "), ("require", "lstmd: there is no sandbox to read a stranger's file in: ")):
        done = run(*arguments, "--out", tmp_path / sandbox, "--sandbox", sandbox, preexec_fn=kernel.without(LACKING[what]))
        assert (done.returncode == 0) == (sandbox == "auto") and f"{says}{what}: Function not implemented\n" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["auto"]
    assert run(*arguments, "--out", tmp_path / "whole", "--sandbox", "require").returncode == 0
    for name in ("config.json", "vocabulary.json", "model.safetensors"):
        assert (tmp_path / "auto" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("what, works", [("Landlock", {"reading", "writing"}), ("seccomp", {"network", "signals", "code", "process"})])
def test_what_the_kernel_does_grant_is_in_force(whole, what, works, tmp_path):
    file = attack.write_archive(tmp_path / "a.keras")
    done = run(file, "--out", tmp_path / "m", environment=attack.environment(tmp_path), preexec_fn=kernel.without(LACKING[what]))
    assert attack.results(done.stderr) == {attempt: attempt in works for attempt in attack.ATTEMPTS}, done.stderr
    assert done.returncode == 1 and not (tmp_path / "m").exists()


@pytest.mark.parametrize("file", ["torch/lstm_tied.pt", "torch/lstm_legacy.pt", "torch/safetensors_lstm.safetensors",
                                  "keras/k240_gru_reset_after.h5", "keras/k392_two_lstm_dense.keras"])
@pytest.mark.parametrize("vocabulary", ["--vocabulary", "--vocabulary-from-text"])
def test_the_sandbox_changes_no_byte(whole, file, vocabulary, tmp_path):
    tokens = json.loads((DATA / "torch/vocabulary.json").read_text()) if "torch" in file else list("abcdef")
    given = tmp_path / "given"
    given.write_text(json.dumps(tokens) if vocabulary == "--vocabulary" else "".join(tokens))
    for sandbox in ("require", "off"):
        done = run(DATA / file, "--out", tmp_path / sandbox, vocabulary, given, "--sandbox", sandbox)
        assert done.returncode == 0, done.stderr
    for name in ("config.json", "vocabulary.json", "model.safetensors"):
        assert (tmp_path / "require" / name).read_bytes() == (tmp_path / "off" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "off", "require"]


@pytest.mark.parametrize("sample, file", [("keras-lstm", "text_generator.keras"), ("keras-simplernn", "char_rnn.h5"),
                                          ("torch-gru-module", "model.pt")])
def test_the_samples_are_read_in_it(whole, sample, file, tmp_path):
    if not (SHARED / sample).is_dir():
        pytest.skip(f"NOT TESTED: {SHARED / sample} is not here")
    (tmp_path / "tokens.json").write_text(json.dumps(json.loads((SHARED / sample / "expected.json").read_text())["vocab"]))
    done = run(SHARED / sample / file, "--out", tmp_path / "m", "--vocabulary", tmp_path / "tokens.json", "--sandbox", "require")
    assert done.returncode == 0, done.stderr


def test_relative_paths_links_and_a_model_that_is_replaced(whole, tmp_path):
    (tmp_path / "linked.pt").symlink_to(DATA / "torch/lstm_tied.pt")
    (tmp_path / "tokens.json").symlink_to(DATA / "torch/vocabulary.json")
    (tmp_path / "real").mkdir()
    (tmp_path / "m").symlink_to("real")
    for _ in range(2):
        done = run("linked.pt", "--out", "m/", "--vocabulary", "tokens.json", "--sandbox", "require", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "real/config.json").exists() and (tmp_path / "m").is_symlink()


ONE_FILE = 'int fd = open("big", 66, 0600); char piece[4096]; memset(piece, 1, sizeof piece); while (write(fd, piece, sizeof piece) > 0); _exit(errno == EFBIG ? 3 : 4)'
MANY_FILES = """char name[32], piece[65536]; memset(piece, 1, sizeof piece); for (;;) { snprintf(name, sizeof name, "m%d", count++);
    int fd = open(name, 66, 0600); for (int i = 0; i < 64; i++) write(fd, piece, sizeof piece); close(fd); }"""


@pytest.mark.skipif(os.environ.get("SANITIZE", "") != "", reason="sanitizers want to be loaded first")
@pytest.mark.parametrize("code, says", [
    (ONE_FILE, "the process that read it ended with the exit code 3"),
    (MANY_FILES, "reading it wrote more than 268435456 bytes, the limit of --max-memory"),
])
def test_a_reader_that_fills_the_disk_is_ended(code, says, tmp_path):
    """The kernel limits one file. The waiting process counts many files."""
    file = attack.write_archive(tmp_path / "a.keras")
    # In the directory beside --out: the only one that the sandbox allows.
    environment = attack.ending(tmp_path, f'glob_t found; glob("m.tmp-*", 0, NULL, &found); chdir(found.gl_pathv[0]); {code}')
    made = tmp_path / "made"
    made.mkdir()
    done = run(file, "--out", made / "m", "--max-memory", "256MiB", "--max-seconds", 50, "--sandbox", "off",
               environment=environment, cwd=made)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert not (made / "m").exists()


@pytest.mark.skipif(os.environ.get("SANITIZE", "") != "", reason="sanitizers catch signals, and want to be loaded first")
@pytest.mark.parametrize("code, says", [
    ("abort()", "the process that read it died (Aborted)"), ("*(volatile int *)8 = 0", "died (Segmentation fault)"),
    ("for (;;) count += 1", "reading it took more than 1 s of the processor, the limit of --max-seconds"),
    ("_exit(0)", "a.keras: the process that read it left no sound model: the file is damaged, or made to do harm"),
    ("_exit(3)", "the process that read it ended with the exit code 3"),
])
def test_a_reader_that_dies_is_reported_and_leaves_nothing(code, says, tmp_path):
    file = attack.write_archive(tmp_path / "a.keras")
    done = run(file, "--out", tmp_path / "m", "--max-seconds", 1, environment=attack.ending(tmp_path, code))
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "attack.c", "attack.so"]
