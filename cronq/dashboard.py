"""`python -m cronq.dashboard`: rq-dashboard with what it leaves open closed; Procfiles name this module."""

import sys

from cronq.web.rq_dashboard import main

if __name__ == "__main__":
    sys.exit(main())
