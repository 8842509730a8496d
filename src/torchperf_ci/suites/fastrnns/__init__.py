"""fastrnns: one LSTM written in sixteen ways, and two ResNets, eager and under TorchScript.

`catalog` names them (without torch), `suite` builds them, `pytest_benchmarks` runs them under pytest-benchmark.
"""
