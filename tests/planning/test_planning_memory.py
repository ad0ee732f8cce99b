"""Memory of the local engine, by hand."""

from planning_cases import SMALL, lm

from d2skill.planning.devices import Device
from d2skill.planning.memory import BatchSize, activations, batch_size, key_value_bytes, layer_temporaries, local_memory
from d2skill.planning.model_shapes import lora_parameters

BARE = Device("bare", 1e9, 1e12, framework=0, kind="cpu")


def test_what_rests_is_weights_reference_and_adam():
    count, load = SMALL.parameters, BatchSize(2, 4, 10, 3, True)
    full = local_memory(lm(dtype="float32"), SMALL, load, BARE).parts["always"]
    assert list(full.values()) == [4 * count, 4 * count, 0, 8 * count, 0]
    half = local_memory(lm(dtype="bfloat16"), SMALL, load, BARE).parts["always"]
    assert list(half.values()) == [2 * count, 2 * count, 4 * count, 8 * count, 0]
    alone = local_memory(lm(dtype="float32", optim={"kl": 0}), SMALL, load, BARE).parts["always"]
    assert alone["reference"] == 0
    config = lm(dtype="bfloat16", lora_rank=4, lora_targets="q_proj, v_proj")
    own = lora_parameters(config.policy.lm, SMALL)
    assert own == 2 * 4 * ((8 + 8) + (8 + 4))
    # the reference is the adapter as it was after imitation
    adapted = local_memory(config, SMALL, load, BARE).parts["always"]
    assert list(adapted.values()) == [2 * count + 4 * own, 4 * own, 0, 8 * own, 0]
    untaught = config.model_copy(update={"warm_start": config.warm_start.model_copy(update={"tasks": 0})})
    assert local_memory(untaught, SMALL, load, BARE).parts["always"]["reference"] == 0


def test_activations_cache_and_logits_by_hand():
    config = lm(dtype="float32", optim={"kl": 0})
    load = BatchSize(2, 4, 10, 1, True)  # an answer of one token: nothing is read after the prompts
    token = 2 * 12 * 8 + 4 * 4 * 16 + 2 * 4 * 8 + 4 * 4
    kept = 2 * (2 * 10 * (token + 4 * 2 * 8 + 4 * 10)) + 12 * 8 * 2 * 10
    assert activations(SMALL, config.policy.lm, 2, 10, flash=False) == (kept, 0)
    longer = activations(SMALL, config.policy.lm, 2, 12, flash=False)[0]
    assert longer == 2 * (2 * 12 * (token + 4 * 2 * 8 + 4 * 12)) + 12 * 8 * 2 * 12
    third = local_memory(config, SMALL, BatchSize(2, 4, 10, 3, True), BARE)
    assert third.parts["while learning"]["activations"] == longer
    assert key_value_bytes(SMALL, 4) == 2 * 2 * 4 * 4
    assert layer_temporaries(SMALL, 4, 10) == 4 * max(3 * 16 + 4 * 8, 24 + 24 + 8 + 16 + 10) + 16 + 10
    found = local_memory(config, SMALL, load, BARE)
    update = found.parts["while learning"]
    assert update["logits"] == 100 * 2 * 16 and update["activations"] == kept
    assert found.parts["in a step of Adam"] == {"gradients": 4 * SMALL.parameters, "temporaries of Adam": 0}
    assert found.parts["while acting"]["keys and values"] == 4 * 11 * 2 * 2 * 4 * 4 * 5 / 4
    assert found.total == max(found.phases.values())


def test_checkpointing_bfloat16_and_smaller_passes_take_less():
    def kept(rows=4, flash=False, **given):
        return activations(SMALL, lm(**given).policy.lm, rows, 419, flash=flash)[0]

    usual = kept()
    assert kept(gradient_checkpointing=True) < usual / 2
    assert kept(dtype="bfloat16") < 0.7 * usual
    assert kept(flash=True) < usual
    # a row alone is not padded and needs no mask
    assert kept(1) < usual / 4
    assert kept(1, flash=True) == kept(flash=True) / 4
    # the settings say whether flash attention is used
    memory = [
        local_memory(lm(attention=name), SMALL, BatchSize(4, 4, 400, 20, True), BARE).parts["while learning"]
        for name in ("auto", "flash_attention_2")
    ]
    assert [parts["activations"] for parts in memory] == [usual, kept(flash=True)]


def test_a_load_keeps_within_the_settings():
    config = lm(microbatch_tokens=1000, answer="free", max_new_tokens=100, prompt={"max_tokens": 400})
    assert batch_size(config) == BatchSize(2, 64, 400, 100, True)
    assert batch_size(lm(microbatch_tokens=64)).update_rows == 1
