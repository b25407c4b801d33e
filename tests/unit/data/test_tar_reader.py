"""The reader of other people's tars, compared with tarfile, and on damaged files."""

import contextlib
import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.data.prepare.files.tar_reader import TarDamage, TarReader
from mm1.data.prepare.locations.names import shown

KINDS = {tarfile.REGTYPE: "file", tarfile.LNKTYPE: "link", tarfile.SYMTYPE: "symlink", tarfile.DIRTYPE: "directory"}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
MEMBERS = st.lists(st.tuples(PATHS, st.sampled_from(list(KINDS)), st.binary(max_size=1200), PATHS), max_size=6)


def make_tar(members, form=tarfile.PAX_FORMAT, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, **options) as tar:
        for name, kind, data, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # too long for ustar
                assert form == tarfile.USTAR_FORMAT
    return buffer.getvalue()


def read(data, start=0, stop=None, seekable=True):
    stream = io.BytesIO(data)
    stream.seek(start)
    reader = TarReader(stream, start, stop, seekable=seekable)
    return [(m.name, m.kind, reader.read(m) if m.kind == "file" else b"", m.target) for m in reader]


def read_with_tarfile(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", ignore_zeros=True, encoding="utf-8") as tar:
        return [
            (shown(info.name), KINDS[info.type], tar.extractfile(info).read() if info.isfile() else b"", shown(info.linkname))
            for info in tar
        ]


def without_slash(members):
    return [(name.rstrip("/"), *rest) for name, *rest in members]


@given(MEMBERS, st.sampled_from(FORMATS), st.booleans())
def test_all_formats_are_read_as_tarfile_does(members, form, seekable):
    data = make_tar(members, form, encoding="utf-8")
    assert without_slash(read(data, seekable=seekable)) == without_slash(read_with_tarfile(data))


@given(MEMBERS, MEMBERS, st.integers(0, 5))
def test_archives_one_after_the_other_are_read(first, second, zeros):
    one, other = make_tar(first), make_tar(second)
    assert read(one + bytes(512 * zeros) + other) == read(one) + read(other)
    end = max((m.offset + m.size + -m.size % 512 for m in TarReader(io.BytesIO(one))), default=0)
    assert read(one[:end] + other) == read(one) + read(other)  # as tar --concatenate writes it


@given(MEMBERS)
def test_ranges_give_the_whole(members):
    data = make_tar(members)
    starts = [member.start for member in TarReader(io.BytesIO(data))]
    for cut in starts[1:]:
        assert read(data, 0, cut) + read(data, cut) == read(data)


def header(name=b"a.jpg", size=b"%011o\0" % 3, kind=b"0", magic=b"ustar\00000", **fields):
    block = bytearray(512)
    block[: len(name)], block[124 : 124 + len(size)], block[156:157] = name, size, kind
    block[257 : 257 + len(magic)] = magic
    for place, value in fields.items():
        block[int(place[1:]) : int(place[1:]) + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tar_of(*blocks):
    return b"".join(block + bytes(-len(block) % 512) for block in blocks) + bytes(1024)


def test_headers_that_tarfile_does_not_write():
    content = b"xyz"
    v7 = header(magic=b"", kind=b"\0")
    assert read(tar_of(v7, content))[0][:3] == ("a.jpg", "file", content)
    assert read(tar_of(header(b"folder/", b"%011o\0" % 0, b"\0", b"")))[0][1] == "directory"
    assert read(tar_of(header(size=b"\x80" + (3).to_bytes(11, "big")), content))[0][2] == content
    spaces = bytearray(header(size=b"          3 "))
    assert read(tar_of(bytes(spaces), content))[0][2] == content
    prefixed = header(p345=b"long/folder")
    assert read(tar_of(prefixed, content))[0][0] == "long/folder/a.jpg"
    gnu_times = header(magic=b"ustar  \0", p345=b"14000000000")
    assert read(tar_of(gnu_times, content))[0][0] == "a.jpg"
    assert read(tar_of(header(kind=b"V", size=b"0"), header(), content))[1][2] == content
    signed = bytearray(header(b"caf\xe9.jpg"))
    total = sum(byte - 256 if byte > 127 else byte for byte in signed[:148] + b" " * 8 + signed[156:])
    signed[148:156] = b"%06o\0 " % total
    assert read(tar_of(bytes(signed), content))[0][0] == "caf\\xe9.jpg"


def pax(**records):
    data = b""
    for field, value in records.items():
        body = b" %s=%s\n" % (field.replace("__", ".").encode(), value)
        size = len(body) + 1
        while len(b"%d" % size) + len(body) != size:
            size += 1
        data += b"%d" % size + body
    return data


def test_pax_records_override_the_header():
    records = pax(path="ü/long.jpg".encode(), size=b"3")
    x = header(b"PaxHeaders/x", b"%011o\0" % len(records), b"x")
    assert read(tar_of(x, records, header(size=b"0"), b"xyz"))[0][:3] == ("ü/long.jpg", "file", b"xyz")
    sparse = pax(GNU__sparse__major=b"1", GNU__sparse__name=b"real.jpg")
    x = header(b"PaxHeaders/x", b"%011o\0" % len(sparse), b"x")
    assert read(tar_of(x, sparse, header(), b"xyz"))[0][:2] == ("real.jpg", "sparse")
    g = header(b"pax_global_header", b"%011o\0" % len(pax(comment=b"c")), b"g")
    assert read(tar_of(g, pax(comment=b"c"), header(), b"xyz", g, pax(comment=b"c")))[0][2] == b"xyz"


def test_gnu_sparse_members_are_skipped_with_all_their_maps():
    sparse = header(kind=b"S", p482=b"\1")
    data = tar_of(sparse, bytes(504) + b"\1", bytes(512), b"xyz", header(b"b.jpg"), b"abc")
    assert [(name, kind) for name, kind, *_ in read(data)] == [("a.jpg", "sparse"), ("b.jpg", "file")]


def test_bytes_after_the_end_are_reported():
    data = tar_of(header(), b"xyz")
    assert [member.kind for member in TarReader(io.BytesIO(data + b"junk"))] == ["file", "trailing"]
    (_, trailing) = TarReader(io.BytesIO(data + bytes(512) + b"j" * 700))
    assert trailing.size == 700
    assert len(read(data + bytes(300))) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"<html>" * 400, "not a tar"),
        (header(), "truncated"),
        (header() + b"xyz", "truncated"),
        (header() + b"xyz" + bytes(509), "no end mark"),
        (header() + b"xyz" + bytes(509) + header()[:100], "truncated"),
        (tar_of(header(), b"xyz", b"junk"), "bad checksum"),
        (tar_of(header(), b"xyz", bytes(512), b"junk" * 128, header(), b"xyz"), "zeros at byte 1,024"),
        (tar_of(header(size=b"\xff" * 12)), "negative"),
        (tar_of(header(kind=b"L", size=b"\x80" + b"\1" * 11)), "an extended header of"),
        (tar_of(header(kind=b"x", size=b"5"), b"9 a=b"), "damaged PAX"),
        (tar_of(header(size=b"\x80" + b"\x7f" * 11)), "truncated"),
    ],
)
def test_damage_is_described(data, message):
    for seekable in (True, False):
        with pytest.raises(TarDamage, match=message):
            read(data, seekable=seekable)


def test_damaged_archives_raise_nothing_else():
    generator = random.Random(0)
    whole = [
        make_tar(
            [(f"{n}.jpg", tarfile.REGTYPE, bytes(700), "") for n in range(3)] + [("é" * 120, tarfile.REGTYPE, b"x", "")], form
        )
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ]
    for number in range(500):
        data = bytearray(whole[number % 2])
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            data[place : place + generator.choice((1, 1, 8, 512))] = generator.randbytes(generator.choice((0, 1, 8, 512)))
        with contextlib.suppress(TarDamage):
            read(bytes(data), seekable=bool(number % 3))
