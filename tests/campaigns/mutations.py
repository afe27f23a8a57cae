"""Mutated copies of files: bytes, and the parts of containers with their lengths and checksums made right again."""

import io
import json
import struct
import warnings
import zipfile
import zlib

INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
# Parts of pickles, JSON, TOML and headers that random bytes do not hit upon.
TOKENS = (
    *(b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"cposix\nsystem\n"),
    *(
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cbuiltins\nbytearray\n",
    ),
    *(
        b"X\x02\x00\x00\x00O8",
        b"R",
        b"b",
        b"\x81",
        b"\x93",
        b"(",
        b"t",
        b"}",
        b"]",
        b"N",
        b".",
        b"h\x00",
    ),
    *(b"r\xff\xff\xff\x7f", b"\x96\xff\xff\xff\xff\x00\x00\x00\x00", b"[" * 2000, b"{" * 50),
    *(
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b"9" * 400,
        b'"',
        b"[]",
        b"{}",
        b"\\u0000",
        b"\n",
        b"= ",
    ),
    *(
        b"../../etc/passwd",
        b"/dev/zero",
        b"[[network]]",
        b"'''",
        b"(1099511627776,)",
        b"'|O'",
        b"'S0'",
    ),
)


def mutate(content, rng, others=()):
    """A copy with one to eight changes; `others` are files of which parts are inserted."""
    data = bytearray(content)
    for _ in range(int(rng.choice((1, 1, 2, 3, 8)))):
        if not data:
            break
        _change(data, rng, others)
    return bytes(data)


def _change(data, rng, others):
    at = _place(data, rng)
    kind = rng.randrange(9)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.randrange(256)
    elif kind == 2:
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice(INTERESTING) % 256**size
        data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    elif kind == 3:
        del data[at : at + rng.choice((1, 2, 4, 8, 64))]
    elif kind == 4:
        start = _place(data, rng)
        part = data[start : start + rng.choice((1, 4, 8, 32, 256))]
        data[at:at] = part * rng.choice((1, 1, 2, 50))
    elif kind == 5:
        data[at:at] = rng.choice(TOKENS)
    elif kind == 6:
        token = rng.choice(TOKENS)
        data[at : at + len(token)] = token
    elif kind == 7 and others:
        other = rng.choice(others)
        start = rng.randrange(len(other))
        part = other[start : start + rng.choice((4, 16, 128, 1024))]
        data[at : at + len(part)] = part
    else:
        del data[rng.choice((at, max(0, len(data) - rng.randrange(64) - 1))) :]


def _place(data, rng):
    """A place, half of the time in the first or last bytes, where headers are."""
    n = len(data)
    if rng.random() < 0.5:
        return (
            min(n - 1, rng.randrange(512))
            if rng.random() < 0.7
            else max(0, n - 1 - rng.randrange(512))
        )
    return rng.randrange(n)


def mutate_zip(content, rng, others=()):
    """Change a member of an archive, and write the archive again."""
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(out, "w", method) as packed,
    ):
        members = archive.namelist()
        weights = [4 if name.endswith((".pkl", ".npy")) else 1 for name in members]
        (chosen,) = rng.choices(members, weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in members:
                part = archive.read(name)
                packed.writestr(name, mutate(part, rng, others) if name == chosen else part)
    return out.getvalue()


def mutate_deflated(content, rng, others=()):
    """Change a compressed variable of MATLAB, and compress it again."""
    head, at, parts = content[:128], 128, []
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        parts.append((kind, content[at + 8 : at + 8 + size]))
        at += 8 + size
    chosen = rng.randrange(len(parts))
    out = [head]
    for i, (kind, part) in enumerate(parts):
        if i == chosen and kind == 15:
            part = zlib.compress(mutate(zlib.decompress(part), rng, others))
        out.append(struct.pack("<II", kind, len(part)) + part)
    return b"".join(out)


def mutate_header(magic):
    """A mutation of a target's header with a right checksum, and of its arrays."""

    def mutated(content, rng, others=()):
        start = len(magic) + 17
        size = int(content[len(magic) :][:8], 16)
        text, body = content[start : start + size], content[start + size :]
        if rng.random() < 0.3:
            body = mutate(body, rng)
            facts = json.loads(text)
            facts |= {"size": len(body), "checksum": zlib.crc32(body)}
            text = json.dumps(facts).encode()
        else:
            text = mutate_json(text, rng, others)
        return magic + b"%08x%08x\n" % (len(text), zlib.crc32(text)) + text + body

    return mutated


VALUES = (
    *(None, True, -1, 0, 2**40, 2**70, 1e308, float("nan")),
    *("", "x" * 300, "\x1b[31m", [], {}, [[]], {"a": {}}, "<f8", "|O"),
)


def mutate_json(content, rng, others=()):
    """Change a value anywhere in JSON, or its bytes."""
    if rng.random() < 0.3:
        return mutate(content, rng, others)
    root = json.loads(content)
    for _ in range(rng.choice((1, 1, 2))):
        node = root
        while isinstance(node, dict | list) and node:
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            below = node[key]
            if not (isinstance(below, dict | list) and below) or rng.random() < 0.2:
                if rng.random() < 0.2:
                    del node[key]
                else:
                    node[key] = rng.choice(VALUES)
                break
            node = below
    return json.dumps(root).encode()
