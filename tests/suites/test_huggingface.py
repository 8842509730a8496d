"""The huggingface suite."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from torchperf_ci.suites import huggingface
from torchperf_ci.suites.published import NeedsDownload

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMISED = [
    "AlbertForMaskedLM",
    "AllenaiLongformerBase",
    "BartForCausalLM",
    "BertForMaskedLM",
    "BlenderbotForCausalLM",
    "DebertaV2ForMaskedLM",
    "DistilBertForMaskedLM",
    "DistillGPT2",
    "ElectraForCausalLM",
    "GPT2ForSequenceClassification",
    "GoogleFnet",
    "LayoutLMForMaskedLM",
    "M2M100ForConditionalGeneration",
    "MBartForCausalLM",
    "MegatronBertForCausalLM",
    "MobileBertForMaskedLM",
    "MT5ForConditionalGeneration",
    "OPTForCausalLM",
    "PegasusForCausalLM",
    "PLBartForCausalLM",
    "RobertaForCausalLM",
    "T5ForConditionalGeneration",
    "T5Small",
    "TrOCRForCausalLM",
    "XGLMForCausalLM",
    "XLNetLMHeadModel",
    "YituTechConvBert",
    "LlamaForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "OlmoeForCausalLM",
    "GptOssForCausalLM",
    "ViTForImageClassification",
    "WhisperForConditionalGeneration",
]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()


def build(name: str, batch_size: int | None = None, *, mode: str = "inference") -> tuple[torch.nn.Module, dict]:
    torch.manual_seed(0)
    module, args, kwargs = huggingface.MODELS[name](batch_size, mode=mode, device="cpu", scale="small")
    assert args == ()
    return module.train(mode == "training"), kwargs


def test_the_suite_has_the_names_of_pytorchs() -> None:
    """Every promised name is there, whatever transformers is installed."""
    assert list(huggingface.MODELS) == list(huggingface.CATALOG)
    assert set(PROMISED) == set(huggingface.MODELS)


def test_importing_the_suite_imports_no_transformers() -> None:
    """Listing the suite costs no import of the library; the preloaded process pays it once."""
    code = "import sys, torchperf_ci.suites.huggingface as s; print('transformers' in sys.modules, s.PRELOAD[0])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False transformers\n"


@pytest.mark.parametrize("name", PROMISED)
def test_every_model_answers_forward_and_trains(name: str) -> None:
    """At the small scale a model gives finite outputs, the same for the same seed, and in training its own loss."""
    module, inputs = build(name)
    with torch.no_grad():
        first, second = module(**inputs).logits, module(**inputs).logits
    assert "labels" not in inputs
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    module, inputs = build(name, mode="training")
    loss = module(**inputs).loss
    loss.backward()
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    assert sum(parameter.grad is not None for parameter in module.parameters()) > 5


@pytest.mark.parametrize("name", ["BertForMaskedLM", "T5Small", "ViTForImageClassification", "DistillGPT2"])
def test_the_same_seed_makes_the_same_model(name: str) -> None:
    """Weights and inputs depend on the seed alone."""
    (first, one), (second, two) = build(name), build(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize(
    "name", ["BertForMaskedLM", "GPT2ForSequenceClassification", "T5Small", "WhisperForConditionalGeneration"]
)
def test_any_batch_size_is_honoured(name: str, mode: str, size: int) -> None:
    """The first dimension of everything that goes in is the batch that was asked for."""
    module, inputs = build(name, size, mode=mode)
    assert {tensor.shape[0] for tensor in inputs.values()} == {size}
    with torch.no_grad():
        assert module(**inputs).logits.shape[0] == size


SHAPES = {
    # model: inputs of the small scale in training, batch 2
    "BertForMaskedLM": {"input_ids": (2, 32), "labels": (2, 32)},
    "DistillGPT2": {"input_ids": (2, 32), "labels": (2, 32)},
    "T5Small": {"input_ids": (2, 32), "decoder_input_ids": (2, 32), "labels": (2, 32)},
    "GPT2ForSequenceClassification": {"input_ids": (2, 32), "labels": (2,)},
    "WhisperForConditionalGeneration": {
        "input_features": (2, 16, 64),
        "decoder_input_ids": (2, 32),
        "labels": (2, 32),
    },
    "ViTForImageClassification": {"pixel_values": (2, 3, 32, 32), "labels": (2,)},
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_inputs_are_made_by_task(name: str) -> None:
    """Language, sequences, classes, speech and images each have their inputs and labels."""
    assert {key: tuple(value.shape) for key, value in build(name, mode="training")[1].items()} == SHAPES[name]


def test_small_models_are_two_layers_wide_128() -> None:
    """A small model has less than two million parameters, so that every one runs on a CPU."""
    sizes = {name: sum(parameter.numel() for parameter in build(name)[0].parameters()) for name in PROMISED}
    assert max(sizes.values()) < 2_000_000, sizes


def test_the_published_sizes_are_those_of_the_classes() -> None:
    """The parameters that `suites list` shows are those of the full configuration; nothing is allocated for it."""
    told = {name: model.parameters for name, model in huggingface.CATALOG.items()}
    with torch.device("meta"):
        counted = {
            name: sum(parameter.numel() for parameter in huggingface.make_module(model, scale="full").parameters())
            for name, model in huggingface.CATALOG.items()
        }
    assert counted == told


@pytest.mark.parametrize(
    "device",
    [
        "meta",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
)
def test_weights_are_made_on_the_device(device: str) -> None:
    """A model that fills an accelerator is not made in the machine's memory first; inputs are, and are small."""
    name = "MistralForCausalLM" if device == "meta" else "DistillGPT2"
    module, _, inputs = huggingface.MODELS[name](1, mode="inference", device=device, scale="full")
    assert {parameter.device.type for parameter in module.parameters()} == {device}
    assert {tensor.device.type for tensor in inputs.values()} == {"cpu"}


def test_inputs_of_the_full_scale_fit_the_configurations() -> None:
    """No published input is longer than the positions its model has."""
    for model in huggingface.CATALOG.values():
        positions = [
            model.config[key]
            for key in ("max_position_embeddings", "n_positions", "max_target_positions")
            if key in model.config
        ]
        assert all(model.length <= position for position in positions), model.name


def test_a_class_that_is_not_there_is_a_reason() -> None:
    """A model whose class this transformers lacks cannot be built, and the message says what may help."""
    model = replace(huggingface.CATALOG["BertForMaskedLM"], class_name="BertForMindReading")
    with pytest.raises(huggingface.NoSuchClass) as caught:
        huggingface.build(model, 1, mode="inference", device="cpu", scale="small")
    version = transformers.__version__
    assert str(caught.value).startswith(f"transformers {version} has no class BertForMindReading; ")
    assert str(caught.value).endswith("-m pip install --upgrade transformers may bring it")


def test_a_configuration_that_needs_a_download_is_refused_with_the_reason() -> None:
    """A backbone by name would be fetched from the hub: that is refused, and the hub is named."""
    model = replace(
        huggingface.CATALOG["ViTForImageClassification"],
        name="Segmentation",
        class_name="UperNetForSemanticSegmentation",
        config={"backbone": "nobody/nothing", "use_pretrained_backbone": True, "use_timm_backbone": False},
    )
    with pytest.raises(NeedsDownload, match="Segmentation asks for a download, and this suite downloads nothing: "):
        huggingface.build(model, 1, mode="inference", device="cpu", scale="full")


def test_every_model_can_say_its_size() -> None:
    """One line: what was published, parameters, batch, extent."""
    assert huggingface.describe("LlamaForCausalLM") == "Llama 3.2 1B: 1,236 M parameters, batch 4, 512 tokens"
    assert huggingface.describe("ViTForImageClassification").endswith("87 M parameters, batch 64, 224 px")
    assert all("parameters" in huggingface.describe(name) for name in huggingface.MODELS)


def test_nothing_is_missing_here() -> None:
    """With a transformers that has every class the suite and its models are ready."""
    assert huggingface.missing() is None
    assert [name for name in huggingface.MODELS if huggingface.missing(name)] == []
