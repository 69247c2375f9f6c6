"""Files: read within a limit, written whole or not at all."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import secrets
import stat
import zipfile
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray

from memspike.errors import FileRefused, MemspikeError

MAX_BYTES = 1 << 31  # 2 GiB: more than any file of memspike needs, less than would exhaust a machine
_PREFIX = b'{"__metadata__":{"sha256":"'
_SEAL = slice(8 + len(_PREFIX), 8 + len(_PREFIX) + 64)
_WHERE_TO_WRITE = "name a folder that exists and that you may write to"
_CURES = {errno.ENOSPC: "make room there, or name a folder on another disk", errno.EISDIR: "name a file, not a folder", errno.ENAMETOOLONG: "name it shorter"}


def read_bytes(path: str | Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file; raises FileRefused when it is missing, unreadable, or longer than `limit` bytes."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            # As much as there is: Python reserves all that it is asked for. A pipe does not say.
            data = file.read(min(about.st_size, limit) + 1 if stat.S_ISREG(about.st_mode) else limit + 1)
    except OSError as error:
        raise FileRefused(f"cannot be read: {_reason(error)}", where=str(path), cure="check the path and who may read it") from error
    if len(data) > limit:
        raise FileRefused(f"is longer than {limit} bytes, the most that is read of such a file", where=str(path))
    return data


def read_table(path: str | Path, columns: tuple[str, ...], optional: tuple[str, ...] = (), limit: int = MAX_BYTES) -> list[tuple[int, dict[str, float]]]:
    """The rows of a CSV file of numbers, each with its line: a header with all of `columns`, perhaps some `optional` ones, and no others.

    Raises FileRefused naming the line when a number is missing, too many, or none.
    """
    maybe = f" (and maybe {', '.join(optional)})" if optional else ""
    wanted = f"expected a header with {', '.join(columns)}{maybe}, then rows of numbers"
    try:
        reader = csv.reader(read_bytes(path, limit).decode("utf-8-sig").splitlines())
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileRefused(f"is no CSV text: {error}", where=str(path), cure=wanted) from error
    header = lines[0][1] if lines else []
    if not set(columns) <= set(header) <= {*columns, *optional} or len(set(header)) < len(header):
        raise FileRefused(f"has the columns {', '.join(header) or '(none)'}", where=f"{path}: line {lines[0][0] if lines else 1}", cure=wanted)
    rows: list[tuple[int, dict[str, float]]] = []
    for line, cells in lines[1:]:
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            raise FileRefused(f"has {len(cells)} columns, the header {len(header)}", where=where, cure=wanted)
        try:
            rows.append((line, {name: float(cell) for name, cell in zip(header, cells, strict=True)}))
        except ValueError as error:
            raise FileRefused(f"holds {', '.join(cells)[:60]}; expected numbers", where=where, cure=wanted) from error
    return rows


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file whole or not at all: whatever happens, `path` holds its old bytes or all of the new ones. Where it is a link, what it links to does; who
    may read an old file may read the new one.

    Raises FileRefused when the folder is missing or not writable.
    """
    given = Path(path)
    try:
        path = given.resolve() if given.is_symlink() else given
        draft = path.parent / f".memspike-{secrets.token_hex(8)}.tmp"
        try:
            # Not tempfile: it makes files that only their owner may read; the umask should decide.
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                draft.chmod(stat.S_IMODE(path.stat().st_mode))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise FileRefused(f"cannot be written: {_reason(error)}", where=str(given), cure=_CURES.get(error.errno or 0, _WHERE_TO_WRITE)) from error
    _sync_folder(path.parent)
    return given


def check_target(path: str | Path, *inputs: str | Path | None) -> None:
    """Raises FileRefused, before anything is made to be written, when `path` cannot be written or is one of the files that it is made from."""
    path = Path(path)
    for read in (Path(each) for each in inputs if each is not None):
        with contextlib.suppress(OSError):  # one of them is not there
            if path.samefile(read):
                raise FileRefused("is read, and would be replaced by what is made from it", where=str(path), cure="name another file")
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise FileRefused("cannot be written: is a directory", where=str(path), cure=_CURES[errno.EISDIR])
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileRefused(f"cannot be written: {_reason(error)}", where=str(path), cure=_CURES.get(error.errno or 0, _WHERE_TO_WRITE)) from error
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise FileRefused(f"cannot be written: {path.parent} is no folder to write to", where=str(path), cure=_WHERE_TO_WRITE)


@contextlib.contextmanager
def alone(folder: Path, busy: MemspikeError) -> Generator[None]:
    """While it is open nobody else is in this folder in the same way; raises `busy` for who comes second, OSError where the folder cannot be written to."""
    try:
        lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout as error:
        raise busy from error
    with lock:
        yield


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text as `write_bytes` does."""
    return write_bytes(path, text.encode())


def read_arrays(path: str | Path, limit: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, none of them holding Python objects.

    Raises FileRefused when the file is no .npz, is damaged, or its arrays need more than `limit` bytes.
    """
    data = read_bytes(path, limit)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            if size > limit:
                raise FileRefused(f"holds {size} bytes of arrays; at most {limit} are read", where=str(path))
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise FileRefused(f"is no .npz file, or is damaged: {error}", where=str(path)) from error


def write_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> Path:
    """Write an .npz file as `write_bytes` does; equal arrays give equal bytes, on every day and machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            npy.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getbuffer(), archive.compression)  # a ZipInfo carries no clock
    return write_bytes(path, buffer.getvalue())


def write_tensors(path: str | Path, metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write a sealed safetensors file as `write_bytes` does; equal contents give equal bytes.

    The first metadata entry is `sha256`, so its 64 hex digits stand at offset 35 of every such file. They are the SHA-256 of the whole file in
    which these 64 bytes are "0": header, names, shapes, padding and data alike. Any safetensors reader opens the file; ours checks the seal first.
    """
    header: dict[str, Any] = {"__metadata__": {"sha256": "0" * 64, **metadata}}
    # The widest elements first keeps every tensor aligned, as safetensors itself does it.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    stop = 0
    for name, array in ordered:
        start, stop = stop, stop + array.nbytes
        header[name] = {"dtype": f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}", "shape": list(array.shape), "data_offsets": [start, stop]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    body = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for _, array in ordered]
    data = bytearray(b"".join([len(head).to_bytes(8, "little"), head, *body]))
    data[_SEAL] = hashlib.sha256(data).hexdigest().encode()
    return write_bytes(path, bytes(data))


def read_tensors(path: str | Path, limit: int = MAX_BYTES) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and arrays of a file made by `write_tensors`.

    Raises FileRefused when a single byte differs from what was written, before anything in it is believed. The seal finds damage;
    it is no signature, since whoever changes a file on purpose can seal it again.
    """
    data = bytearray(read_bytes(path, limit))
    if not is_sealed(data):
        raise FileRefused("is no safetensors file that memspike wrote, or its first bytes are damaged", where=str(path))
    seal = bytes(data[_SEAL])
    data[_SEAL] = b"0" * 64
    if hashlib.sha256(data).hexdigest().encode() != seal:
        raise FileRefused("is damaged: its SHA-256 is not the one it was written with", where=str(path), cure="copy or make the file again")
    try:
        arrays = safetensors.numpy.load(bytes(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileRefused(f"is no safetensors file: {error}", where=str(path)) from error
    return header["__metadata__"], arrays


def is_sealed(beginning: bytes | bytearray) -> bool:
    """Whether a file with this beginning says that `write_tensors` made it."""
    return beginning[8 : _SEAL.start] == _PREFIX


def _array(data: bytes) -> NDArray[Any]:
    """One .npy file; its header is compared with its size before the array is allocated."""
    file = io.BytesIO(data)
    try:
        read_header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except Exception as error:  # numpy passes on whatever Python's parser makes of a header: SyntaxError, TokenError, MemoryError, ...
        raise ValueError(f"an array's header cannot be read ({error})") from error
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array of {dtype} {list(shape)} has {len(data) - file.tell()} bytes")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system offers that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
