# SPDX-License-Identifier: MIT
"""Exchanges files with NumPy. `npy_numpy.py FOLDER` writes files that tests/adapters/npy.cpp reads from the folder in the
environment variable INFALIGN_NPY_FOLDER; `npy_numpy.py FOLDER check` then reads the files that the test wrote there."""
import pathlib
import sys

import numpy

folder = pathlib.Path(sys.argv[1])


def values(dtype):
    return (numpy.arange(12).reshape(3, 4) / 8 - 0.5).astype(dtype)


if sys.argv[2:] != ["check"]:
    folder.mkdir(parents=True, exist_ok=True)
    for dtype in "f4", "f8":
        for version in 1, 2, 3:
            with open(folder / f"version{version}_{dtype}.npy", "wb") as file:
                numpy.lib.format.write_array(file, values("<" + dtype), version=(version, 0))
        numpy.save(folder / f"flat_{dtype}.npy", values(dtype).ravel())
    numpy.save(folder / "offsets.npy", numpy.array([0, 5, 5, 12], dtype="i8"))
    numpy.save(folder / "no_rows.npy", numpy.zeros((0, 4), dtype="f4"))
    numpy.save(folder / "no_columns.npy", numpy.zeros((3, 0), dtype="f4"))
    numpy.save(folder / "fortran.npy", numpy.asfortranarray(values("f4")))
    with open(folder / "fortran_row.npy", "wb") as file:  # numpy.save would call one row C order
        header = {"descr": "<f4", "fortran_order": True, "shape": (1, 12)}
        numpy.lib.format.write_array_header_1_0(file, header)
        file.write(values("<f4").tobytes())
    numpy.save(folder / "big_endian.npy", values(">f4"))
    numpy.save(folder / "integers.npy", values("i8"))
    numpy.save(folder / "half.npy", values("f2"))
    numpy.save(folder / "structured.npy", numpy.zeros((3, 4), dtype=[("a", "f4")]))
    numpy.save(folder / "cube.npy", values("f4").reshape(3, 2, 2))
else:
    for dtype in "f4", "f8":
        for name, expected in ("matrix", values(dtype)), ("row", values(dtype)[1]), ("empty", values(dtype)[:0]):
            found = numpy.load(folder / f"infalign_{name}_{dtype}.npy", mmap_mode="r")
            assert found.dtype == expected.dtype and found.flags.c_contiguous, (name, dtype)
            assert found.shape == expected.shape and (found == expected).all(), (name, dtype)
    found = numpy.load(folder / "infalign_offsets.npy")
    assert found.dtype == numpy.int64 and found.tolist() == [0, 5, 5, 12]
    print("numpy", numpy.__version__, "reads them")
