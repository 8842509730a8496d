"""Benchmark suites, imported by the worker inside the Python under test: standard library, torch, what a suite needs.

A suite is a module (or a single file) with

`MODELS`
    a mapping from model name to a function `f(batch_size)` that returns `(module, args)` or `(module, args, kwargs)`,
    with any callable in the place of the module, a callable alone, or a mapping with the keys of `suites.program.KEYS`.
    `batch_size` is an int, or None for the model's own default. A function that declares keyword-only parameters
    named `mode`, `device`, `dtype` or `scale` is given them as text (`scale` is "full" or "small").

and, where they are wanted,

`PARAMS`
    a mapping from model name to a mapping from parameters to lists of values, or to a list of combinations: each is a
    case whose function is given them by name.
`SHAPES`
    a mapping from model name to a list of inputs, or a function that returns one, that a case runs in turn.
`METRICS`
    a mapping from a metric's name to its `unit` and `direction`; `metrics(model, result, seconds)` makes the numbers.
`check(model, result)`
    whether a result is right: None or True, else False or a text.
`QUICK`
    regular expressions; `--quick` keeps the models one of them matches.
`GROUPS`
    names of groups of models, each with the names of its models; `--filter` takes a group's name for all of them.
`PRELOAD`
    names of modules that take long to import and touch no device; they are imported once per run, not once per case.
`SKIPS`
    a sequence of `Skip`: models that are not run, by device and mode, and why.
`tolerance(model, mode, dtype)`
    the absolute and relative tolerance of the accuracy check; the default is 1e-4 for float32 and 1e-3 below.
`use_cosine(model)`
    whether the accuracy check uses cosine similarity for this model.
`loss(module, output)`
    the scalar to run backward from in training. The default is the module's own loss (a scalar output, or an output
    with a scalar `loss`), else the mean of the output.
`batch_size(model, args)`
    the batch size of a model's own default inputs, where that is not the first dimension of the first tensor.
`missing(name=None)`
    why the suite (or the model `name`) cannot run in this environment, or None.
`describe(model)`
    the model in one line, for example its size; the default is the first line of its function's docstring.
"""

SHARING_VARIABLE = "TORCHPERF_SHARING"
"""The number of processes that hold a model at the same time, in the environment of a comparison's workers."""

WORKING_TREE_VARIABLE = "TORCHPERF_WORKING_TREE"
"""Where the repository lies whose commits are compared: no code of a side may come from there, but for its own tree."""
