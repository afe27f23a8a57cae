"""Public data from a server on the loopback: licences, checksums, interruptions, archives."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest

pytest.importorskip("pooch")

from fastrdm.cli import main
from fastrdm.studies import PUBLIC_DATA, fetch_data, read_checksums


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the server's `files`, with ranges; what is in `cut` breaks off after half, once."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path in server.failing:
            self.send_error(server.failing[self.path])
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        content = server.files[self.path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        wanted, first = self.headers.get("Range"), 0
        if wanted and server.ranges and self.headers.get("If-Range") == tag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[first:]
        if server.tagged:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut.get(self.path, 0) > 0:
            server.cut[self.path] -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("fastrdm.studies.downloading._WAIT", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.failing, server.cut, server.asked = {}, {}, {}, []
        server.ranges = server.tagged = True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as pack:
        for name, text in files.items():
            pack.writestr(name, text)
    return content.getvalue()


ARCHIVE = zipped(
    **{"betas_csv/sub-01_VoxelMetadata.csv": "voxel_id\n1\n", "betas_csv/sub-01.h5": "x" * 9999}
)


def things(server, folder, **more):
    server.files.setdefault("/betas_csv.zip", ARCHIVE)
    options = {"accept_licence": True, "base_url": server.url, **more}
    return fetch_data("things-fmri", folder, **options)


def test_archives_are_fetched_recorded_and_unpacked(server, tmp_path):
    seen = []
    (file,) = things(
        server, tmp_path / "new" / "things", progress=lambda *event: seen.append(event)
    )
    assert file.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
    assert (file.checked, file.n_bytes, file.resumed_at) == ("first", len(ARCHIVE), 0)
    assert seen[-1] == ("betas_csv.zip", len(ARCHIVE), len(ARCHIVE))
    folder = tmp_path / "new" / "things"
    assert (folder / "sub-01_VoxelMetadata.csv").read_text() == "voxel_id\n1\n"
    record = json.loads((folder / "fastrdm-fetch.json").read_text())
    assert record == {"name": "things-fmri", "sha256": {"betas_csv.zip": file.sha256}}
    # Nothing is fetched again, and what is missing is unpacked again.
    (folder / "sub-01.h5").unlink()
    (again,) = things(server, folder)
    assert (again.checked, len(server.asked)) == ("recorded", 1)
    assert (folder / "sub-01.h5").stat().st_size == 9999
    assert sorted(path.name for path in folder.iterdir()) == [
        "betas_csv.zip", "fastrdm-fetch.json", "sub-01.h5", "sub-01_VoxelMetadata.csv",
    ]  # fmt: skip


def test_a_broken_connection_is_resumed_at_once(server, tmp_path):
    server.cut["/betas_csv.zip"] = 2
    (file,) = things(server, tmp_path)
    assert file.path.read_bytes() == ARCHIVE and file.resumed_at == len(ARCHIVE) // 2
    assert [wanted for _, wanted in server.asked][:2] == [None, f"bytes={len(ARCHIVE) // 2}-"]


def test_an_interrupted_fetch_goes_on_next_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr("fastrdm.studies.downloading._TRIES", 1)
    server.cut["/betas_csv.zip"] = 1
    half = len(ARCHIVE) // 2
    with pytest.raises(OSError, match=f"ended after {half} of .*; {half} bytes are kept"):
        things(server, tmp_path)
    assert not (tmp_path / "betas_csv.zip").exists()
    (file,) = things(server, tmp_path)
    assert file.path.read_bytes() == ARCHIVE and file.resumed_at == half


@pytest.mark.parametrize("how", ["changed", "no ranges"])
def test_a_part_that_does_not_fit_is_fetched_anew(how, server, tmp_path, monkeypatch):
    monkeypatch.setattr("fastrdm.studies.downloading._TRIES", 1)
    server.cut["/betas_csv.zip"] = 1
    with pytest.raises(OSError, match="bytes are kept"):
        things(server, tmp_path)
    if how == "changed":
        server.files["/betas_csv.zip"] = zipped(other="another")
    else:
        server.ranges = False
    (file,) = things(server, tmp_path)
    assert file.path.read_bytes() == server.files["/betas_csv.zip"]
    assert file.resumed_at == 0


def test_a_wrong_checksum_deletes_the_file(server, tmp_path):
    with pytest.raises(ValueError, match=r"has another SHA-256 than checksums says \(0{64}\)"):
        things(server, tmp_path, checksums={"betas_csv.zip": "0" * 64})
    assert not (tmp_path / "betas_csv.zip").exists()
    assert not (tmp_path / "sub-01.h5").exists()
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    (file,) = things(server, tmp_path, checksums={"betas_csv.zip": f"sha256:{digest.upper()}"})
    assert file.checked == "given"
    # A file that was changed here is fetched again; one that the owner changed is refused.
    (tmp_path / "betas_csv.zip").write_bytes(b"damaged")
    assert things(server, tmp_path)[0].path.read_bytes() == ARCHIVE
    (tmp_path / "betas_csv.zip").unlink()
    server.files["/betas_csv.zip"] = zipped(other="another")
    with pytest.raises(ValueError, match="SHA-256 than fastrdm-fetch.json says"):
        things(server, tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>log in</html>", "is not a zip or tar archive; is it a page of the server"),
        (ARCHIVE[: len(ARCHIVE) // 2], "is not a zip or tar archive"),
        (ARCHIVE.replace(b"x" * 99, b"x" * 98 + b"y", 1), "is damaged: Bad CRC-32 for file"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_fetched_again(body, message, server, tmp_path):
    server.files["/betas_csv.zip"] = body
    with pytest.raises(ValueError, match=f"{message}.*; it was deleted, and the next fetch gets"):
        things(server, tmp_path)
    server.files["/betas_csv.zip"] = ARCHIVE
    assert things(server, tmp_path)[0].checked == "first"
    # A file of the user's is kept.
    for name in ("fastrdm-fetch.json", "sub-01.h5"):
        (tmp_path / name).unlink()
    (tmp_path / "betas_csv.zip").write_bytes(body)
    with pytest.raises(ValueError, match="; delete it, and fetch it again"):
        things(server, tmp_path)
    assert (tmp_path / "betas_csv.zip").read_bytes() == body


def test_a_full_disk_is_said_at_once(server, tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 9})
    monkeypatch.setattr("fastrdm.studies.downloading.shutil.disk_usage", lambda _: free)
    with pytest.raises(
        OSError, match=r"could not be fetched: it has .*, and the disk has 0 MiB left"
    ):
        things(server, tmp_path)
    assert len(server.asked) == 1


def test_a_part_without_a_tag_is_not_promised(server, tmp_path, monkeypatch):
    monkeypatch.setattr("fastrdm.studies.downloading._TRIES", 1)
    server.cut["/betas_csv.zip"], server.tagged = 1, False
    with pytest.raises(OSError, match=r"ended after \d+ of \d+ bytes$"):
        things(server, tmp_path)
    assert things(server, tmp_path)[0].path.read_bytes() == ARCHIVE


def test_shared_images_are_those_of_the_table(server, tmp_path):
    rows = ["nsdId,shared1000", "7,False", "2950,True", "12,True"]
    server.files["/nsddata/experiments/nsd/nsd_stim_info_merged.csv"] = "\n".join(rows).encode()
    for name in ("shared0001_nsd00013.png", "shared0002_nsd02951.png"):
        server.files[f"/nsddata_stimuli/stimuli/nsd/shared1000/{name}"] = name.encode()
    options = {"accept_licence": True, "base_url": f"{server.url}/"}
    files = fetch_data("nsd-shared", tmp_path, **options)
    assert [file.name for file in files][1:] == [
        "stimuli/shared0001_nsd00013.png", "stimuli/shared0002_nsd02951.png",
    ]  # fmt: skip
    assert (tmp_path / "stimuli" / "shared0002_nsd02951.png").is_file()
    # What was fetched before a failure is recorded.
    (tmp_path / "fastrdm-fetch.json").unlink()
    (tmp_path / "stimuli" / "shared0002_nsd02951.png").unlink()
    del server.files["/nsddata_stimuli/stimuli/nsd/shared1000/shared0002_nsd02951.png"]
    with pytest.raises(OSError, match="the server answers 404 Not Found$"):
        fetch_data("nsd-shared", tmp_path, **options)
    assert len(json.loads((tmp_path / "fastrdm-fetch.json").read_text())["sha256"]) == 2
    for text, message in (("a,b\n", "has no columns nsdId"), ("nsdId,shared1000\nx,True", "not an integer"),
                          ("nsdId,shared1000\n1,False", "marks no image as shared1000")):  # fmt: skip
        server.files["/nsddata/experiments/nsd/nsd_stim_info_merged.csv"] = text.encode()
        with pytest.raises(ValueError, match=message):
            fetch_data("nsd-shared", tmp_path / message, **options)


def test_the_challenge_is_unpacked_from_a_folder(tmp_path):
    top = "algonautsChallenge2019/Training_Data/92_Image_Set"
    archive = zipped(**{f"{top}/target_fmri.mat": "rdms", f"{top}/92images/image_01.jpg": "image"})
    (tmp_path / "algonautsChallenge2019.zip").write_bytes(archive)
    with pytest.raises(
        ValueError, match=r"no address that is known here; download algonautsChallenge2019.zip from"
    ):
        fetch_data("algonauts2019", tmp_path / "data", accept_licence=True)
    fetch_data("algonauts2019", tmp_path / "data", accept_licence=True, base_url=tmp_path.as_uri())
    assert (tmp_path / "data" / "Training_Data" / "92_Image_Set" / "target_fmri.mat").is_file()
    with pytest.raises(OSError, match="could not be fetched"):
        fetch_data(
            "algonauts2019",
            tmp_path / "b",
            accept_licence=True,
            base_url=(tmp_path / "no").as_uri(),
        )


def test_tar_archives_are_unpacked_and_bad_archives_refused(server, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in ("a/b.txt", "a/c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))
    server.files["/betas_csv.zip"] = content.getvalue()
    things(server, tmp_path / "tar")
    assert (tmp_path / "tar" / "b.txt").read_text() == "abc"
    server.files["/betas_csv.zip"] = b"<html>Log in</html>"
    with pytest.raises(ValueError, match="is not a zip or tar archive; is it a page of the server"):
        things(server, tmp_path / "page")
    server.files["/betas_csv.zip"] = zipped(**{"../evil.txt": "x", "good.txt": "y"})
    with pytest.raises(ValueError, match="'../evil.txt', which leads out of the folder"):
        things(server, tmp_path / "evil")
    assert not (tmp_path / "evil.txt").exists() and not (tmp_path / "evil" / "good.txt").exists()


@pytest.mark.parametrize(
    ("name", "more", "kind", "message"),
    [
        ("things", {}, ValueError, "name 'things' is not one of: algonauts2019, nsd-shared, things-fmri"),
        ("things-fmri", {"accept_licence": False}, PermissionError, "has a licence: .*Read it, and pass"),
        ("things-fmri", {"base_url": "ftp://a"}, ValueError, "base_url is 'ftp://a'; expected an address"),
        ("things-fmri", {"checksums": {"a": "12"}}, ValueError, "checksums has '12' for 'a'; expected a SHA-256"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_work_starts(name, more, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        fetch_data(name, tmp_path / "new", **{"accept_licence": True, **more})
    assert not (tmp_path / "new").exists()


def test_wrong_checksums_folders_and_servers_are_refused(server, tmp_path):
    with pytest.raises(ValueError, match="checksums name 'other', which is no file of things-fmri"):
        things(server, tmp_path / "a", checksums={"other": "0" * 64})
    (tmp_path / "a" / "fastrdm-fetch.json").write_text('{"name": "nsd-shared", "sha256": {}}')
    with pytest.raises(ValueError, match="holds nsd-shared; name another folder for things-fmri"):
        things(server, tmp_path / "a")
    (tmp_path / "a" / "fastrdm-fetch.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged; delete it to record the checksums anew"):
        things(server, tmp_path / "a")
    server.failing["/betas_csv.zip"] = 503
    with pytest.raises(OSError, match="the server answers 503"):
        things(server, tmp_path / "b")
    assert len(server.asked) == 6
    (tmp_path / "sums").write_text("12  a\n")
    with pytest.raises(ValueError, match="line 1: expected a SHA-256 and a file name"):
        read_checksums(tmp_path / "sums")


def test_the_command_shows_the_licence_and_prints_json(server, tmp_path, capsys, monkeypatch):
    server.files["/betas_csv.zip"] = ARCHIVE
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    (tmp_path / "sums").write_text(f"# of the owner\n{digest} *betas_csv.zip\n")
    command = ["fetch", "things-fmri", str(tmp_path / "things"), "--base-url", server.url]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(command) == 1
    errors = capsys.readouterr().err
    assert PUBLIC_DATA["things-fmri"].licence in errors and "pass --accept-licence" in errors
    assert not server.asked
    assert (
        main([*command, "--accept-licence", "--checksums", str(tmp_path / "sums"), "--json"]) == 0
    )
    out, errors = capsys.readouterr()
    document = json.loads(out)
    assert document["files"][0]["sha256"] == digest and document["files"][0]["checked"] == "given"
    assert document["licence"] in errors
    assert main([*command, "--accept-licence"]) == 0
    assert "things-fmri: 1 file, 0 MiB in" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("Yes\n", 0), ("\n", 1), ("", 1)])
def test_the_command_asks_on_a_terminal(answer, status, server, tmp_path, capsys, monkeypatch):
    server.files["/betas_csv.zip"] = ARCHIVE
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert main(["fetch", "things-fmri", str(tmp_path), "--base-url", server.url]) == status
    errors = capsys.readouterr().err
    assert "Do you accept it? [y/N]" in errors
    assert ("had no checksum to compare with" in errors) == (status == 0) == bool(server.asked)
    assert ("was not accepted; nothing was fetched" in errors) == bool(status)
