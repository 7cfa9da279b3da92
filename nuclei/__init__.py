"""Find nuclei in microscope images, from Python:

    from nuclei import load_model, find_nuclei, measure_nuclei, Options

    model = load_model()                            # the user's own model, else the shipped one
    found = find_nuclei(image, model, Options(mpp=0.5))
    found.labels                                    # (H, W) int32, 0 background, 1...n
    table = measure_nuclei(found, model, mpp=0.5)   # a DataFrame, one row for each nucleus

docs/python.md explains it. The rooms below this folder are what the scripts are made of; each name
here is imported when it is first used.
"""

import importlib

ROOMS = {
    "load_model": "nuclei.inference.engines",
    "find_nuclei": "nuclei.inference.find",
    "Options": "nuclei.inference.find",
    "measure_nuclei": "nuclei.results.image",
    "is_out_of_distribution": "nuclei.results.image",
}
__all__ = ["Options", "find_nuclei", "is_out_of_distribution", "load_model", "measure_nuclei"]


def __getattr__(name: str):
    """Import one of ROOMS on first use (PEP 562), so that a script waits for nothing else."""
    if name == "__version__":
        return importlib.import_module("nuclei.version").program_version()
    if name not in ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(ROOMS[name]), name)
    globals()[name] = value
    return value
