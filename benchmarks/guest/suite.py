"""Runs the tests of one module of CPython's suite and writes what becomes of each as it ends.

    python suite.py MODULE LOG [PATTERN ...]

A line of JSON in LOG for each beginning and end; a test whose end stands there already is not run again, so
that a run which was killed, or died, goes on behind the test that was its last.  It runs inside of what is
compared, with nothing but the standard library; compare_cpython.py starts it.
"""

import faulthandler
import fnmatch
import json
import os
import sys
import time
import traceback
import unittest

MODULE, LOG, PATTERNS = sys.argv[1], sys.argv[2], sys.argv[3:]
PID = os.getpid()


def tell(what, **more):
    if os.getpid() != PID:  # a test's child that came back from fork into here
        return
    line = json.dumps({"what": what, **more}) + "\n"
    # Opened each time: tests close descriptors, and count them.
    with open(LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(line)


class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        tell("begin", test=test.id())

    def stopTest(self, test):
        super().stopTest(test)
        self.end(test, "pass")

    def end(self, test, how, text=""):
        """The first end counts: after a failure stopTest is called too."""
        name = test.id()
        if name in DONE:
            return
        DONE.add(name)
        took = time.monotonic() - getattr(self, "began", time.monotonic())
        tell("end", test=name, how=how, seconds=round(took, 2), text=text)

    def failed(self, test, how, error):
        self.end(test, how, "".join(traceback.format_exception(*error))[-4000:])

    def addError(self, test, error):
        self.failed(test, "error", error)

    def addFailure(self, test, error):
        self.failed(test, "fail", error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            how = "fail" if issubclass(error[0], test.failureException) else "error"
            self.end(test, how, f"{subtest}\n" + "".join(traceback.format_exception(*error))[-4000:])

    def addSkip(self, test, reason):
        self.end(test, "skip", reason)

    def addUnexpectedSuccess(self, test):
        self.end(test, "fail", "unexpected success")


def wanted(suite):
    """The tests that are not done, in suites as they were: their fixtures belong to them."""
    kept = []
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            item = wanted(item)
            if item.countTestCases():
                kept.append(item)
        elif item.id() not in DONE and (not PATTERNS or any(fnmatch.fnmatch(item.id(), p) for p in PATTERNS)):
            kept.append(item)
    return unittest.TestSuite(kept)


def done():
    names = set()
    try:
        with open(LOG, encoding="utf-8") as log:
            for line in log:
                said = json.loads(line)
                if said["what"] == "end":
                    names.add(said["test"])
    except FileNotFoundError:
        pass
    return names


DONE = done()


def main():
    from test import support

    support.use_resources = ["cpu", "subprocess", "walltime"]
    faulthandler.enable(all_threads=True)
    tell("start", prefix=sys.prefix, executable=sys.executable, version=sys.version)
    loader = unittest.TestLoader()
    try:
        suite = loader.loadTestsFromName(f"test.{MODULE}")
    except unittest.SkipTest as reason:
        tell("end", test=f"test.{MODULE}", how="skip", seconds=0, text=str(reason))
        suite = unittest.TestSuite()
    for error in loader.errors:
        tell("end", test=f"test.{MODULE} (loading)", how="error", seconds=0, text=error[-4000:])
    wanted(suite).run(Result())
    tell("finished")


if __name__ == "__main__":
    main()
