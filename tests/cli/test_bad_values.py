"""Every value and combination that cannot be trained is refused in one line, as the runs of a sweep are checked."""

import pytest

from tests.helpers.refusals import checked

CNN, MLP, NOISY = "model=cnn data=digits", "model=mlp data=digits", "model=cnn data=noisy_digits"

# The overrides of a run: what the line must say.
COMPOSED = {
    # near misses, and fields that belong to another choice
    "model.placement=per_gates": "nearest: per_gate",
    "model.backend=fusd": "nearest: fused",
    "model.input=one_hot": "nearest: onehot",
    "model=image_lstm data=digits model.order=row": "nearest: rows",
    "optim.schedule=cosin": "nearest: cosine",
    "wandb.mode=ofline": "nearest: offline",
    "stage=finale": "nearest: final",
    "trainer.measure=[invarianc]": "nearest: invariance",
    "data.unit=words": "it comes as: char, word",
    "norm=none norm.gain=0.1": "norm.gain is a field of norm=bn, norm=gn,",
    "optim.momentum=0.9": "optim.momentum is a field of optim=sgd;",
    "model.name=cnn": "choose a whole, as model=cnn",
    "optim.name=lion": "those of adam; choose a whole, as optim=",
    "data.name=mnist": "choose the whole set with data=mnist",
    "model.kind=images": "model.kind=images cannot be set",
    # values: of another type, empty, null, missing, out of range
    "trainer.steps=1.5": "trainer.steps=1.5 is not a whole number or null;",
    "optim.lr=fast": "optim.lr=fast is not a number;",
    "trainer.statistics=maybe": "trainer.statistics=maybe is not true or false;",
    "seed=[1,2]": "seed=[1, 2] is not a whole number;",
    "trainer.measure=invariance": "trainer.measure=invariance is not a list",
    f"{MLP} model.hidden_sizes=[a]": "model.hidden_sizes[0]=a is not a whole number;",
    "trainer=5": "trainer=5 is no section; set its fields, as trainer.steps=...",
    "norm=gn norm.groups=two": "norm.groups=two is not of type int",
    "seed=null": "seed=null is not a whole number;",
    "norm.name=null": "has no name",
    "seed=???": "seed is missing; give it, as seed=...",
    "seed=2147483648": "out of range",
    "threads=0": "threads=0 is out of range",
    **{f"trainer.{name}=0": f"trainer.{name}=0 is out of range" for name in ("steps", "epochs", "examples")},
    "trainer.steps=-1": "from 1 to 2147483647",
    "trainer.evaluations=0": "out of range",
    "trainer.evaluations=1000000000000": "out of range",
    "trainer.log_every=0": "out of range",
    "trainer.checkpoint_every=-1": "out of range",
    **{f"optim.lr={value}": "optim.lr=" for value in ("0", "-1", "nan", "inf", "1e400")},
    "optim.beta1=1.5": "optim.beta1=1.5 is out of range",
    "optim=sgd optim.momentum=-1": "out of range",
    "optim.weight_decay=-1": "out of range",
    "optim.clip=0": "out of range",
    "optim.reference_batch=-32": "out of range",
    "optim.warmup_steps=-1": "out of range",
    "norm.eps=-1": "norm.eps=-1 is negative",
    "norm.eps=inf": "norm.eps=inf is not finite",
    "norm.gain=big": "norm.gain=big is not of type float",
    "norm=bn norm.momentum=7": "give 0 < norm.momentum <= 1",
    "model.dropout=1": "model.dropout=1.0 is out of range",
    "model.forget_bias=nan": "model.forget_bias=nan is not finite",
    "model=image_lstm data=digits model.state_noise=-1": "give 0 or more, as 0.1",
    f"{MLP} model.hidden_sizes=[-5]": "model.hidden_sizes=-5 is out of range",
    f"{CNN} model.depth=4": "choose 3, 6, 9, ...",
    "trainer.steps=5 trainer.epochs=1": "a run has one budget",
    # what no machine holds
    "model.hidden_size=1000000": "GB with gradients and optimiser, and this machine has",
    "model.num_layers=1000000": "from 1 to 1000",
    f"{CNN} model.depth=3000000": "from 1 to 1000",
    "data.batch_size=1000000000000000000000": "out of range",
    f"{NOISY} data.canvas=100000": "does not fit into memory",
    f"{NOISY} data.copies=1000000000": "does not fit into memory",
    "data.blocks=1000000000": "is more than the text's",
    # combinations
    "model=lstm norm=in": "norm=in is refused in a recurrent layer",
    "norm=gn norm.groups=7": "norm.groups=7 does not divide 128 channels",
    "norm=gn norm.groups=0": "norm.groups=0 does not divide",
    f"{CNN} norm=gn norm.groups=32": "does not divide 16 channels",
    f"{MLP} norm=gn model.norm_output=true": "does not divide 10 channels",
    f"{CNN} norm=bn data.batch_size=1": "norm=bn needs a batch of at least two",
    f"{MLP} norm=wn norm.data_init=true data.batch_size=1": "norm.data_init=true needs a batch of at least two",
    "norm=wn norm.data_init=true": "is for feed-forward layers",
    "model=gru model.placement=cell_only": "needs a cell state, which GRU lacks",
    "model.tied=true": "model.embedding_size equal to model.hidden_size",
    "model=lstm data=digits": "model=lstm takes text, data=digits holds images; choose data=",
    "model=cnn data=python_docs": "choose data=digits",
    "model=order_embedding data=python_docs": "choose data=python_docs_pairs",
    "data.batch_size=100000": "more than the 4",
    "data.seq_len=1000000": "data.seq_len=1000000 needs one more than that",
    "model.backend=fused trainer.statistics=true": "use model.backend=auto",
    "trainer.measure=[invariance]": "choose model=mlp",
    f"{MLP} trainer.measure=[invariance] norm=in": "each statistic is of one value",
    f"{MLP} trainer.measure=[invariance] model.hidden_sizes=[]": "give one layer",
    f"{CNN} data.val=10 trainer.measure=[train_test_gap]": "10 validation examples make no batch of 128",
    "model=draw data=binary_digits trainer.measure=[train_test_gap]": "a gap of logits, which it lacks; choose another",
    "model=handwriting": "takes strokes, data=python_docs holds text; choose data=drawn_lines or crohme",
    "data.batch_size=1000 trainer.measure=[train_test_gap]": "validation examples make no batch of 1000",
    f"{CNN} data.val=0": "do not fit into 1797 examples",
    f"{CNN} data.val=-5": "do not fit into 1797 examples",
    f"{CNN} data.test=0": "data.test=0 leaves nothing to test on",
    f"{CNN} data.val=0.1": "data.val=0.1 is not a whole number",
    f"{CNN} data.train_examples=0": "train_examples=0",
    f"{CNN} data.pool=3": "nearest: 2",
    f"{NOISY} data.canvas=4": "give a larger data.canvas",
    f"{NOISY} data.contrast_low=2": "exchange them",
    f"{NOISY} data.noise=0 data.contrast_low=0 data.contrast_high=0": "nothing to tell images apart by",
    "data.val_blocks=[4] data.test_blocks=[4]": "must be different numbers in 0..19",
    "device=mps": "device=mps is not on this machine",
}


@pytest.mark.parametrize("overrides", COMPOSED)
def test_a_configuration_that_cannot_be_trained_is_reported_in_one_line(overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert COMPOSED[overrides] in checked(overrides.split())
    assert list(tmp_path.iterdir()) == []
