"""npz files: equal arrays give equal bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np


def packed(arrays: Mapping[str, np.ndarray], *, small: bool = False) -> bytes:
    """The bytes of an npz, which `numpy.load` reads.

    Ordinarily deflated at its fastest level: images full of noise do not get smaller at a slower one. `small`: LZMA,
    for what is kept for good.
    """
    buffer, how = io.BytesIO(), zipfile.ZIP_LZMA if small else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed
            file.writestr(info, content.getbuffer(), compress_type=how, compresslevel=1)
    return buffer.getvalue()
