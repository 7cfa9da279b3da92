"""The part of an image where most happens: a look there tells most about its nuclei.

top, left = busiest_window(image, 768, 768)
"""

import cv2
import numpy as np


def busiest_window(image, height: int, width: int) -> tuple[int, int]:
    """Find the window of this size where grey levels change most: most nuclei lie there.

    Args:
        image: (H, W, C), an array or anything that slices like one.
        height, width: of the window in px; cut to the size of the image.

    Returns:
        (top, left).
    """
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    step = max(1, max(image.shape[:2]) // 512)  # a coarse look is enough
    grey = np.asarray(image[::step, ::step], np.float32).mean(-1)
    change = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    change += np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    box = (max(1, width // step), max(1, height // step))  # OpenCV's order
    total = cv2.boxFilter(
        change, -1, box, anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    num_rows, num_columns = grey.shape[0] - box[1] + 1, grey.shape[1] - box[0] + 1
    total = total[: max(1, num_rows), : max(1, num_columns)]
    top, left = np.unravel_index(total.argmax(), total.shape)
    top, left = int(top) * step, int(left) * step
    return min(top, image.shape[0] - height), min(left, image.shape[1] - width)
