"""Names, aliases and files lead to one spec each; whatever is wrong with them is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import InputError, SpecError, UnknownNameError
from hwprof.specs.catalogue.check import check_catalogue, check_file
from hwprof.specs.catalogue.lookup import find_file, load_cluster, load_device, load_link, load_model
from hwprof.specs.files import data_roots

TINY = find_file("model", "tiny").read_text()
H100 = find_file("device", "h100").read_text()


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("h100", "h100-sxm5-80gb"),
        ("H100-SXM", "h100-sxm5-80gb"),
        (" h200 ", "h200-sxm5-141gb"),
        ("a100-sxm", "a100-sxm4-80gb"),
        ("a100-80gb-sxm", "a100-sxm4-80gb"),
        ("b200", "b200-sxm-180gb"),
        ("gb200", "gb200-nvl72"),
        ("b300", "b300-sxm-288gb"),
        ("gb300", "gb300-nvl72"),
        ("TPU-v5p", "tpu-v5p"),
    ],
)
def test_names_and_aliases_in_any_case_lead_to_the_device(name, device):
    assert load_device(name).id == device


def test_a_near_miss_is_suggested_with_the_ways_out():
    with pytest.raises(UnknownNameError) as caught:
        load_device("h100-smx")
    text = str(caught.value)
    assert "did you mean h100-sxm" in text
    assert "give a TOML file" in text
    assert "HWPROF_PATH" in text


def test_several_names_where_one_goes_are_told_apart():
    with pytest.raises(InputError) as caught:
        load_device("h100, rtx-4090")
    assert str(caught.value) == "'h100, rtx-4090' names h100 and rtx-4090; one device here; ask for each by itself"


def test_a_file_is_loaded_by_its_path(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text(TINY.replace("layers = 4", "layers = 5"))
    assert load_model(path).layers == 5
    assert load_model(str(path)).layers == 5


def test_a_file_in_the_working_folder_is_loaded_by_its_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(TINY.replace("layers = 4", "layers = 5"))
    assert load_model("mine.toml").layers == 5


def test_a_catalogue_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert load_model("tiny").layers == 4


@pytest.mark.parametrize("shelf", ["models", "."])
def test_the_path_variable_adds_models(tmp_path, monkeypatch, shelf):
    (tmp_path / shelf).mkdir(exist_ok=True)
    text = TINY.replace('name = "tiny"', 'name = "mine"\naliases = ["my-own"]')
    (tmp_path / shelf / "mine.toml").write_text(text)
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    assert load_model("MY-OWN").name == "mine"


@pytest.mark.parametrize("shelf", ["hardware_specs/devices", "hardware_specs", "."])
def test_the_path_variable_adds_devices(tmp_path, monkeypatch, shelf):
    (tmp_path / shelf).mkdir(parents=True, exist_ok=True)
    text = H100.replace('id = "h100-sxm5-80gb"', 'id = "mine"').replace('"h100", "h100-sxm", ', "")
    (tmp_path / shelf / "mine.toml").write_text(text)
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    assert load_device("mine").id == "mine"
    with pytest.raises(UnknownNameError):
        load_model("mine")


def test_two_files_that_claim_one_alias_are_an_error_that_names_both(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TINY.replace('name = "tiny"', 'name = "mine"\naliases = ["7B"]'))
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match=r"'7b' is claimed by .*llama-2-7b.toml and by .*mine.toml"):
        load_model("7b")
    assert any("'7b' is claimed by" in str(problem) for problem in check_catalogue()[1])


def test_an_alias_that_hides_a_builtin_id_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TINY.replace('name = "tiny"', 'name = "mine"\naliases = ["tiny"]'))
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match="claimed by"):
        load_model("tiny")


def test_a_catalogue_file_must_bear_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TINY)
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match=r"mine.toml: key 'name' is 'tiny'; expected 'mine'"):
        load_model("mine")


def test_a_loose_file_must_say_of_which_sort_it_is(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("layers = 4\n")
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match=r"mine.toml: key 'kind' is missing; expected one of decoder \(model\)"):
        load_model("tiny")


def wrong_model(change):
    old, new = change
    assert old in TINY
    return TINY.replace(old, new, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not toml [[[", "is not TOML: .*line 1"),
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (bytes(range(128, 256)), "is not text"),
        (b"x = " + b"[" * 50_000, "is not TOML"),
        (wrong_model(("layers = 4", "layers = -4")).encode(), "key 'layers' is -4; expected a finite number"),
        (wrong_model(("layers = 4", "layers = 0")).encode(), "key 'layers' is 0; expected greater than 0"),
        (wrong_model(("layers = 4", 'layers = "4"')).encode(), "key 'layers' is '4'; expected a valid integer"),
        (wrong_model(("layers = 4", "layers = 4.5")).encode(), "key 'layers' is 4.5; expected a valid integer"),
        (wrong_model(("layers = 4", "")).encode(), "key 'layers' is missing; add 'layers'"),
        (wrong_model(("layers", "layer")).encode(), "key 'layer.*did you mean layers|key 'layers' is missing"),
        (wrong_model(("= 4", "= 4\nfrobnicate = 1")).encode(), "key 'frobnicate' is unknown; known keys: name"),
        (wrong_model(("= 4", "= 4\nheds = 1")).encode(), "key 'heds' is unknown; did you mean heads"),
        (
            wrong_model(("rope_theta = 10000", "rope_theta = nan")).encode(),
            "key 'rope_theta' is nan; expected a finite",
        ),
        (wrong_model(("rope_theta = 10000", "rope_theta = inf")).encode(), "key 'rope_theta' is inf"),
        (wrong_model(('"silu"', '"swish"')).encode(), "key 'activation' is 'swish'; expected 'gelu', 'relu'"),
        (wrong_model(("gated = true", "gated = 1")).encode(), "key 'gated' is 1; expected a valid boolean"),
        (wrong_model(("kv_heads = 2", "kv_heads = 3")).encode(), "heads = 4 must be a multiple of kv_heads = 3"),
    ],
)
def test_a_wrong_model_file_is_one_line_with_file_key_and_expectation(tmp_path, content, message):
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message) as caught:
        load_model(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert "pydantic" not in text
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"3350 GB/s"', '"3350 bananas"', "key 'memory.bandwidth': '3350 bananas' is not a quantity in byte_per_s"),
        ('"3350 GB/s"', '"3350 GB"', "key 'memory.bandwidth': '3350 GB' is not a quantity in byte_per_s"),
        ('"3350 GB/s"', "3350", "key 'memory.bandwidth': 3350 has no unit"),
        ('"3350 GB/s"', '"-3350 GB/s"', "key 'memory.bandwidth': '-3350 GB/s' is not a quantity"),
        ('"3350 GB/s"', '"0 GB/s"', "key 'memory.bandwidth' is '0 GB/s'; expected greater than 0"),
        ('bf16 = "989.4', 'bf61 = "989.4', "key 'peaks.dense.bf61' is unknown; did you mean bf16"),
        ('int8 = "1979 TOP/s"', 'int8 = "1979 TFLOP/s"', "key 'peaks.dense.int8': '1979 TFLOP/s' is not a quantity"),
        ('per_pair = "450', 'per_pair = "900', "key 'link': per_pair is above per_device"),
        ('l2 = "50 MiB"', 'recalled = ["size"]', "key 'memory': recalled names 'size'"),
        ("names = [", "cpu_models = [", 'cpu_models is only for kind = "cpu"'),
    ],
)
def test_a_wrong_device_file_names_the_key_and_the_unit(tmp_path, old, new, message):
    assert old in H100
    path = tmp_path / "wrong.toml"
    path.write_text(H100.replace(old, new, 1))
    with pytest.raises(SpecError, match=message) as caught:
        load_device(path)
    assert "\n" not in str(caught.value)
    assert check_file(path)[0].fact.startswith(str(path))


def test_a_link_table_may_not_be_left_out_of_a_scale_up_domain(tmp_path):
    path = tmp_path / "wrong.toml"
    start, end = H100.index("[link]"), H100.index("[host_link]")
    path.write_text(H100[:start] + H100[end:])
    with pytest.raises(SpecError, match=r"scale_up_domain = 8 needs a \[link\] table"):
        load_device(path)


def test_a_cpu_pattern_must_be_a_regular_expression(tmp_path):
    text = find_file("device", "epyc-7763").read_text().replace("EPYC 7763(", "EPYC 7763((")
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match="is no regular expression"):
        load_device(path)


def test_several_problems_are_counted_and_check_lists_each(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(TINY.replace("layers = 4", "layers = 0").replace("heads = 4", "heads = 0"))
    with pytest.raises(SpecError, match=r"and 1 more: see `hwprof specs check"):
        load_model(path)
    assert len(check_file(path)) == 2


@pytest.mark.parametrize("load", [load_model, load_device, load_link, load_cluster])
def test_an_empty_name_a_missing_file_and_a_folder_are_wrong_input(tmp_path, load):
    for text, message in [
        ("", "is named"),
        (str(tmp_path / "none.toml"), "does not exist"),
        (str(tmp_path), "is no file|is a folder in which no file says"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load(text)
        assert caught.value.exit_code == 2


@given(st.binary(max_size=300))
def test_random_bytes_are_never_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError):
        load_model(path)


@settings(max_examples=25)
@given(st.text(max_size=60))
def test_random_names_are_a_model_or_wrong_input(text):
    try:
        load_model(text)
    except InputError as error:
        assert "\n" not in str(error) or "\n" in text  # noqa: PT017 (either outcome is right; only the form is checked)


def test_swapped_letters_are_a_near_miss():
    with pytest.raises(UnknownNameError, match="did you mean tiny"):
        load_model("tyni")


def test_a_name_too_long_for_the_file_system_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        load_model("x" * 5000)
    for suffix in (".toml", ".json"):
        with pytest.raises(SpecError, match="cannot be read: File name too long"):
            load_model("/" + "x" * 5000 + suffix)


def test_a_home_folder_that_nobody_has_is_a_missing_file():
    with pytest.raises(SpecError, match="does not exist"):
        load_model("~nobody-has-this/tiny.toml")


def test_a_device_without_an_end_is_not_read():
    with pytest.raises(SpecError, match="/dev/zero is no file"):
        load_model("/dev/zero")


@pytest.mark.parametrize("content", ['{"model_type": "nonsense-9"}', "{", ""])
def test_a_json_configuration_is_refused_with_the_keys_to_write(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    for name in (path, tmp_path):
        with pytest.raises(SpecError, match=r"config.json.* TOML file with the keys name, kind, layers, d_model"):
            load_model(name)


def test_n_devices_within_a_node_are_one_node():
    cluster = load_cluster("4xh100-sxm")
    assert (cluster.devices, cluster.nodes, cluster.devices_per_node, cluster.scale_up_domain) == (4, 1, 4, 4)
    assert cluster.device.id == "h100-sxm5-80gb"


def test_more_devices_fill_usual_nodes_on_the_usual_network():
    cluster = load_cluster("64X H100-SXM")
    assert (cluster.devices, cluster.nodes, cluster.devices_per_node, cluster.scale_up_domain) == (64, 8, 8, 8)
    assert cluster.inter_node_byte_per_s == pytest.approx(50e9)
    assert cluster.network == "ib-ndr"


def test_a_scale_up_domain_may_span_nodes():
    assert load_cluster("8xgb200").scale_up_domain == 8
    cluster = load_cluster("144xgb200")
    assert (cluster.nodes, cluster.devices_per_node, cluster.scale_up_domain) == (36, 4, 72)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0xh100", "fills no whole nodes; expected 1 to 8 devices"),
        ("12xh100", "fills no whole nodes; expected 1 to 8 devices, or a multiple of 8"),
        ("16xrtx-4090", "no usual network is known for rtx-4090"),
        ("8xh999", "device 'h999' is not in the catalogue"),
        ("h100", "is a device, not a cluster; say how many, for example 8xh100"),
        ("dgx-h10", "cluster 'dgx-h10' is not in the catalogue; did you mean dgx-h100"),
    ],
)
def test_a_cluster_that_cannot_be_says_why(text, message):
    with pytest.raises(InputError, match=message):
        load_cluster(text)


CLUSTER = """id = "mine"
kind = "cluster"
device = "h100"
devices = 32
devices_per_node = 16
scale_up_domain = 16
inter_node = "200 Gb/s"
[source]
node = "made up"
"""


def test_a_cluster_file_names_its_device(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(CLUSTER)
    cluster = load_cluster(path)
    assert (cluster.device.id, cluster.nodes, cluster.inter_node_byte_per_s) == ("h100-sxm5-80gb", 2, 25e9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("devices = 32", "devices = 33", "devices = 33 is no multiple of devices_per_node = 16"),
        ('inter_node = "200 Gb/s"\n', "", "inter_node is missing"),
        ('"h100"', '"h1000"', "device 'h1000' is not in the catalogue"),
        ('device = "h100"', "device = 3", "key 'device' is 3"),
    ],
)
def test_a_wrong_cluster_file_says_what_is_wrong(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(CLUSTER.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_cluster(path)
    assert len(check_file(path)) == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("links/nvlink4", "adds_in_switch = true\n", "", "adds_in_switch is missing"),
        ("links/nvlink4", 'adds_in_switch = "', 'adds = "', "adds_in_switch = true needs its source"),
        ("links/nvlink4", "adds_in_switch = true", 'adds_in_switch = "sharp"', "'adds_in_switch' is 'sharp'"),
        ("devices/l4", '_family = "ada"', '_family = "adda"', "'architecture_family' is 'adda'"),
        ("devices/l4", '_family = "ada"', '_family = "cpu"', "does not go with kind = 'gpu'"),
        ("devices/l4", 'architecture_family = "ada"\n', "", "architecture_family"),
        ("devices/h200-sxm5-141gb", '_as = "h100-sxm5-80gb"', '_as = "h100-sxm6"', "the same chip as 'h100-sxm6'"),
    ],
)
def test_words_that_decide_a_prediction_are_said_and_known(tmp_path, name, old, new, message):
    text = (data_roots()[0] / f"hardware_specs/{name}.toml").read_text()
    assert text.count(old) == 1
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    assert any(message in str(problem) for problem in check_file(tmp_path / "mine.toml"))


def test_a_link_that_no_file_describes_is_found(tmp_path, monkeypatch):
    text = H100.replace('id = "h100-sxm5-80gb"', 'id = "mine"').replace('"nvlink4"', '"nvlink9"')
    text = text.replace('names = ["NVIDIA H100 80GB HBM3"]\n', "")
    (tmp_path / "mine.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("aliases")))
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    assert [str(problem) for problem in check_catalogue()[1]] == [
        "mine names the link 'nvlink9', which no file describes; add that link or correct the name"
    ]


def test_loading_a_model_imports_neither_torch_nor_pandas():
    code = "import sys; from hwprof.specs.catalogue.lookup import load_model; load_model('70b'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"torch", "pandas", "numpy"} & set(done.stdout.split())
