"""How a program ends that the user or the system stops: Ctrl-C and SIGTERM.

    if __name__ == "__main__":
        stop_while_importing()              # above the imports that take time

    with stops_as_interrupt():              # around the work
        ...
    except KeyboardInterrupt as stop:
        line, status = describe_stop(stop)

Each script begins with the first of these: its imports take a second, in which Ctrl-C would end in
the traceback of a library.
"""

import contextlib
import os
import signal
import sys
import threading


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: all that Ctrl-C brings about is done for it, too."""


def stop_while_importing() -> None:
    """Let Ctrl-C and SIGTERM end the program at once, in one line. Nothing has begun yet."""

    def end(signum, _):
        end_at_once(Terminated() if signum == signal.SIGTERM else None)

    end.is_early = True
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
            signal.signal(number, end)


def end_at_once(stop: BaseException | None) -> None:
    """End the program in one line, without cleaning up.

    Args:
        stop: as for `describe_stop`.
    """
    text, status = describe_stop(stop)
    with contextlib.suppress(OSError):  # stderr may be closed
        script = os.path.basename(sys.argv[0])
        os.write(2, f"{script}: {text}\n".encode("utf-8", "backslashreplace"))
    os._exit(status)


@contextlib.contextmanager
def stops_as_interrupt():
    """Raise KeyboardInterrupt in the main thread on Ctrl-C, and `Terminated` on SIGTERM.

    A second Ctrl-C while the first one is being obeyed ends the program on the spot: every file is
    written whole or not at all. So does one that comes where Python drops exceptions, as while an
    object is deleted. Handlers of other programs stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came: KeyboardInterrupt | None = None

    def stop(signum, _):
        nonlocal came
        came = Terminated() if signum == signal.SIGTERM else KeyboardInterrupt()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        raise came

    def end_where_dropped(dropped):
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            end_at_once(dropped.exc_value)
        if came is None:  # what is half made then complains while it is deleted
            tell_dropped(dropped)

    tell_dropped, sys.unraisablehook = sys.unraisablehook, end_where_dropped
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in before.items() if is_default(handler)]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    except Exception:
        if came is None:
            raise
        raise came from None  # a library has made an error of its own of it
    finally:
        # A script is at its end here. Python would show the traceback of a late Ctrl-C, and what
        # the things complain of that are left.
        is_script = any(getattr(before[number], "is_early", False) for number in ours)
        for number in ours:
            signal.signal(number, signal.SIG_DFL if is_script else before[number])
        if came is None or not is_script:
            sys.unraisablehook = tell_dropped


def is_default(handler) -> bool:
    """Whether a signal handler is Python's own, the system's, or that of `stop_while_importing`."""
    usual = (signal.SIG_DFL, signal.default_int_handler)
    return handler in usual or getattr(handler, "is_early", False)


def describe_stop(stop: BaseException | None) -> tuple[str, int]:
    """A line for the user, and the exit status, of a program that was stopped.

    Args:
        stop: `Terminated`, or anything else for Ctrl-C.
    """
    cause, status = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("Ctrl-C", 130)
    return f"stopped by {cause}; finished files are kept, nothing is half-written", status
