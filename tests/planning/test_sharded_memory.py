"""Memory of training through verl, by hand."""

from itertools import pairwise

import pytest
from planning_cases import COUNT, HEAD, LAYER, ROW, SEVEN, seven

from d2skill.planning.devices import find_device
from d2skill.planning.model_shapes import KNOWN
from d2skill.planning.sharded_memory import BUCKET, PROCESS, SLEEPING_ENGINE, cluster_memory


def test_memory_of_a_7b_on_eight_gpus_by_hand():
    found = cluster_memory(seven(), SEVEN, find_device("h100"))
    # float32 weights, their gradients and two moments, each an eighth
    eighth = 4 * COUNT / 8
    assert found.parts["held by verl"] == {"weights": eighth, "Adam's two moments": 2 * eighth}
    assert found.parts["in a step of Adam"] == {"gradients": eighth, "temporaries of Adam": eighth}
    assert found.parts["while learning"] == pytest.approx(
        {
            "gradients": eighth,
            # the head in bfloat16, its gradient in bfloat16 and in float32, and the weights of a layer
            "layers put together": 8 * HEAD + 2 * LAYER,
            # of 16384 tokens the input of each layer; the last norm keeps a float32 copy and two of bfloat16
            "activations": 16384 * 3584 * (28 * 2 + 8),
            "logits": 16384 * 152_064 * (2 + 2),
            "layers computed again": 0,  # less than the logits, which are there at another time
        }
    )
    # 48 GB: bfloat16 weights, the framework, 8192 tokens inside a layer, 256 rows to draw from, keys and values
    inside = 8192 * 2 * (3 * 18_944 + 4 * 3584) + 3 * 4 * 256 * 152_064
    left = 48e9 - 2 * COUNT - 1e9 - inside
    assert found.parts["answering"]["keys and values"] == left
    assert (found.prompts, found.copies) == (int(left / (28 * 2 * 512 * 2 * ROW)), 8) == (102, 8)
    assert found.phases == pytest.approx(
        {
            "learning": 1e9 + SLEEPING_ENGINE + 3 * eighth + sum(found.parts["while learning"].values()),
            "step of Adam": 1e9 + SLEEPING_ENGINE + 5 * eighth,
            "handing weights over": 1e9 + SLEEPING_ENGINE + 3 * eighth + 2 * COUNT + BUCKET + 4 * HEAD,
            "answering": 1e9 + 3 * eighth + 48e9,
        }
    )
    assert found.total == max(found.phases.values()) and found.fits(find_device("h100"))
    # three processes a GPU, eight that play, and six more
    assert found.host == {"reference": 2 * COUNT, "loading": 4 * COUNT, "processes": 38 * PROCESS}
    assert sum(found.checkpoint.values()) == (4 + 8 + 4) * COUNT


def test_offload_and_megatron_by_hand():
    h100, whole = find_device("h100"), 12 * COUNT
    away = cluster_memory(seven(offload=True, nodes=2), SEVEN, h100)
    assert away.phases["answering"] == 49e9
    coming = 4 * COUNT / 16 + 2 * COUNT + BUCKET + 4 * HEAD
    assert away.phases["handing weights over"] == 1e9 + SLEEPING_ENGINE + coming
    assert away.phases["learning"] == cluster_memory(seven(nodes=2), SEVEN, h100).phases["learning"]
    assert away.host["weights and optimiser while not used"] == whole / 2 and away.host["reference"] == COUNT
    split = ("actor_rollout_ref.actor.megatron.tensor_model_parallel_size=2",)
    found = cluster_memory(seven(strategy="megatron", options=split, offload=True), SEVEN, h100)
    assert list(found.parts["held by verl"].values()) == [COUNT, 2 * COUNT, COUNT / 2, COUNT, COUNT]
    assert found.host["weights and optimiser while not used"] == 8 * 3.5 * COUNT and "reference" not in found.host
    assert found.parts["while learning"]["activations"] == 16384 * 3584 * (28 * 2 + 8) / 2
    assert sum(found.checkpoint.values()) == 14 * COUNT
    alone = cluster_memory(seven(strategy="megatron"), SEVEN, h100)
    assert alone.parts["held by verl"]["weights"] == 2 * COUNT and not alone.fits(h100)


def test_what_changes_the_memory_of_a_cluster():
    h100 = find_device("h100")
    usual = cluster_memory(seven(), SEVEN, h100)
    # without a reference there is none, and without checkpointing all layers keep what they made
    assert "reference" not in cluster_memory(seven(kl=0), SEVEN, h100).host
    kept = cluster_memory(seven(lm={"gradient_checkpointing": False}), SEVEN, h100)
    assert kept.parts["while learning"]["activations"] > 20 * usual.parts["while learning"]["activations"]
    assert not kept.fits(h100)
    # logits that are divided by a temperature are there a third time
    warm = cluster_memory(seven(temperature=0.7), SEVEN, h100)
    assert warm.parts["while learning"]["logits"] == 1.5 * usual.parts["while learning"]["logits"]
    # fsdp makes one group of embeddings and head
    one = cluster_memory(seven(strategy="fsdp"), SEVEN, h100).parts["while learning"]["layers put together"]
    assert one == pytest.approx(8 * 2 * HEAD + 2 * LAYER)
    # two GPUs for a copy leave more room for keys and values, of which each then has half
    shared = cluster_memory(seven(tensor_parallel=2), SEVEN, h100)
    assert shared.copies == 4 and shared.prompts > 2 * usual.prompts
    # four heads have keys: of seven GPUs, each keeps one of them
    seventh = cluster_memory(seven(gpus=7, tensor_parallel=7), SEVEN, h100)
    assert seventh.prompts == int(seventh.parts["answering"]["keys and values"] / (2 * 28 * 2 * 128 * ROW))
    # the last of the options counts
    short = [f"actor_rollout_ref.actor.fsdp_config.model_dtype={name}" for name in ("fp32", "bf16")]
    halved = cluster_memory(seven(options=short), SEVEN, h100).parts["held by verl"]["weights"]
    assert halved == usual.parts["held by verl"]["weights"] / 2
    # tied embeddings are loaded by each process
    tied = cluster_memory(seven(), KNOWN["Qwen/Qwen2.5-0.5B-Instruct"], h100)
    assert tied.host["loading"] == 8 * 4 * 494_032_768
    full = cluster_memory(seven(lm={"dtype": "float32", "gradient_checkpointing": False}), SEVEN, h100)
    # rows that are not packed: three of 5120 tokens in float32, with a mask in each layer
    assert full.parts["while learning"]["activations"] > 1.9 * kept.parts["while learning"]["activations"]
    assert full.parts["while learning"]["logits"] == 3 * ROW * 152_064 * 8


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp", "megatron"])
@pytest.mark.parametrize("offload", [False, True])
def test_more_gpus_never_take_more_memory_each(strategy, offload):
    sizes = [(1, 1), (1, 2), (1, 8), (2, 8), (10, 8)]
    for shape in KNOWN.values():
        found = [
            cluster_memory(seven(strategy=strategy, offload=offload, nodes=n, gpus=g), shape, find_device("h100"))
            for n, g in sizes
        ]
        for few, many in pairwise(found):
            assert many.total <= few.total and all(many.phases[name] <= few.phases[name] for name in few.phases)
            assert many.checkpoint == few.checkpoint
