"""fastrnns: one LSTM written in sixteen ways, and two ResNets, eager and under TorchScript.

`catalog` names them (without torch), `models` builds them, `suite` is the suite `fastrnns`, `pytest_benchmarks` runs
them under pytest-benchmark.
"""
