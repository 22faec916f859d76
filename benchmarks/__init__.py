"""Speed, measured as a ratio within one run; nothing here is part of the test suite."""

import atlas_bench  # noqa: F401 - before torch: it decides how torch's threads wait
