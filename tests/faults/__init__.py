"""Faults made on purpose, and what is left of the promises afterwards.

What tests put between a client and its Redis (`proxy`, `calls`), what bodies record outside Redis and how it is held
against the ledger (`witness`), what may live for ever (`leftovers`), jobs for this (`rounds_jobs`), and workers that
break the promises (`naive`), to see that it is found. `CRONQ_LONG_TESTS=1` does all of what is otherwise a sample,
`CRONQ_TEST_SEED` draws another sample, `pytest -rP` shows the figures.
"""
