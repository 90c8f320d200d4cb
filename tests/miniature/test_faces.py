"""The miniature's face pack: its recipe against insightface, and its weights on unseen renders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
insightface = pytest.importorskip("insightface")
onnxruntime = pytest.importorskip("onnxruntime")

import character_curator.miniature as miniature  # noqa: E402
from miniature.data.augment import degrade, occlude_face, ruin_face  # noqa: E402
from miniature.data.faces import (  # noqa: E402
    batches,
    draw_others,
    draw_people,
    read_sets,
    sample_people,
    write_sets,
)
from miniature.measure.faces import (  # noqa: E402
    find_faces,
    load_pack,
    match_faces,
    measure_detector,
    measure_recogniser,
    overlap,
)
from miniature.recipe import detector, recogniser  # noqa: E402
from miniature.recipe.session import Budget  # noqa: E402

PACK = Path(miniature.__file__).parent / "weights" / "faces"
needs_weights = pytest.mark.skipif(
    not list(PACK.glob("*.onnx")), reason="the miniature's face pack has not been trained here"
)


@pytest.fixture(scope="module")
def few():
    return draw_people(5, 0, 4, scenes=2)


@pytest.fixture(scope="module")
def untrained_pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    torch.manual_seed(0)
    detector.export_detector(detector.FaceNetwork().eval(), folder / "det.onnx")
    recogniser.export_recogniser(recogniser.RecogniserNetwork().eval(), folder / "rec.onnx")
    return folder


def test_people_are_reproducible_and_every_third_is_a_look_alike(few):
    again = draw_people(5, 0, 4, scenes=2)
    np.testing.assert_array_equal(few.images, again.images)
    people = sample_people(5, 0, 6)
    for k in (2, 5):
        said = [
            (p.gender, p.skin, p.hair_color, p.hair_style, p.eye_color, p.freckles)
            for p in people[k - 1 : k + 1]
        ]
        assert said[0] == said[1]
        assert people[k].face_width != people[k - 1].face_width


def test_shards_are_kept_and_joined(tmp_path, monkeypatch):
    from miniature.data import faces as faces_data

    monkeypatch.setattr(faces_data, "_PEOPLE_PER_SHARD", 1)
    monkeypatch.setattr(faces_data, "_OTHERS_PER_SHARD", 3)
    with pytest.raises(FileNotFoundError, match="write_sets"):
        read_sets(tmp_path)
    write_sets(tmp_path, people=1, others=3, seed=5, size=64)
    stamp = (tmp_path / "people-0000" / "images.npy").stat().st_mtime_ns
    write_sets(tmp_path, people=2, others=3, seed=5, size=64)
    assert (tmp_path / "people-0000" / "images.npy").stat().st_mtime_ns == stamp
    images = read_sets(tmp_path)
    assert len(images) == 2 * 6 + 3
    np.testing.assert_array_equal(images.images[:12], draw_people(5, 0, 2, size=64).images)
    np.testing.assert_array_equal(images.images[12:], draw_others(5, 0, 3, size=64).images)
    assert list(images.face_counts[-1:]) == [0]
    assert (images.face_counts[12:14] >= 2).all()


def test_batches_show_everything_once_before_anything_twice():
    source = batches(10, 4, np.random.default_rng(0))
    drawn = np.concatenate([next(source) for _ in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    later = next(batches(10, 4, np.random.default_rng(0), skip=3))
    np.testing.assert_array_equal(later, drawn[12:16])


def test_alignment_is_that_of_insightface(few):
    from insightface.utils.face_align import norm_crop

    for image, points in zip(few.images, few.landmarks[:, 0], strict=True):
        theirs = norm_crop(image, points.astype(np.float32)).astype(int)
        ours = recogniser.align(image, points).astype(int)
        assert np.abs(theirs - ours).mean() < 0.5


def test_degradation_keeps_shape_and_the_original(few):
    image = few.images[0]
    before = image.copy()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for result in (
            degrade(image, rng),
            ruin_face(image, few.boxes[0, 0], rng)[0],
            occlude_face(image, few.boxes[0, 0], few.images[2], rng)[0],
        ):
            assert result.shape == image.shape
            assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_views_move_boxes_and_landmarks_with_the_pixels(few):
    for seed in range(40):
        _, boxes, points, worth = detector.view(few, seed % 8, 0, np.random.default_rng(seed))
        if worth[0] >= 0:
            low, high = boxes[0, :2], boxes[0, 2:]
            slack = 0.3 * (high - low)
            assert (points[0] > low - slack).all()
            assert (points[0] < high + slack).all()
            assert points[0, 0, 0] < points[0, 1, 0] + slack[0]  # left stays left when mirrored
        assert np.isnan(worth[1:]).all()


def test_targets_name_the_cells_in_the_middle_of_a_face():
    boxes = torch.zeros(1, 3, 4)
    boxes[0, 0] = torch.tensor([40.0, 30.0, 80.0, 86.0])
    worth = torch.tensor([[1.0, float("nan"), float("nan")]])
    wanted, weight, face = detector.targets(boxes, worth, (16, 16))
    cells = {divmod(int(k) // 2, 16) for k in wanted[0].nonzero()[:, 0]}
    assert cells == {(y, x) for y in (6, 7, 8) for x in (7, 8)}
    assert float(wanted.sum()) == 12  # 56 pixels are within both anchors' ranges
    assert weight[0, 0] == 1  # a far cell is judged
    undecided = weight[0].reshape(16, 16, 2)[6, 9]
    assert (undecided == 0).all()  # a cell at the edge of the middle is not
    assert set(face.unique().tolist()) == {-1, 0}


def test_loss_falls_when_the_network_is_right():
    boxes = torch.zeros(1, 3, 4)
    boxes[0, 0] = torch.tensor([40.0, 30.0, 80.0, 86.0])
    points = torch.rand(1, 3, 5, 2) * 40 + 40
    worth = torch.tensor([[1.0, float("nan"), float("nan")]])
    raw = torch.zeros(1, 30, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)
    first = None
    for _ in range(300):
        loss = detector.detection_loss(raw, boxes, points, worth)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


@pytest.mark.parametrize(("height", "width"), [(128, 128), (160, 224), (320, 320)])
def test_exported_detector_computes_what_the_network_does(untrained_pack, height, width):
    torch.manual_seed(0)
    network = detector.FaceNetwork().eval()
    session = onnxruntime.InferenceSession(
        str(untrained_pack / "det.onnx"), providers=["CPUExecutionProvider"]
    )
    x = torch.randn(1, 3, height, width)
    outputs = session.run(None, {"input": x.numpy()})
    assert [o.name for o in session.get_outputs()][::3] == ["score_8", "bbox_8", "kps_8"]
    for level, stride in enumerate(detector.STRIDES):
        with torch.no_grad():
            scores, sides, points = detector.decoded(network(x))
        cells = (height // stride) * (width // stride) * 2
        assert outputs[level].shape == (cells, 1)
        np.testing.assert_allclose(outputs[level][:, 0], scores[0].sigmoid(), atol=1e-3)
        np.testing.assert_allclose(outputs[3 + level], sides[0], rtol=5e-3, atol=5e-3)
        np.testing.assert_allclose(outputs[6 + level], points[0], rtol=5e-3, atol=5e-3)
        x = torch.nn.functional.avg_pool2d(x, 2)


def test_exported_recogniser_computes_what_the_network_does(untrained_pack):
    torch.manual_seed(0)
    detector.FaceNetwork()
    network = recogniser.RecogniserNetwork().eval()
    session = onnxruntime.InferenceSession(
        str(untrained_pack / "rec.onnx"), providers=["CPUExecutionProvider"]
    )
    x = torch.randn(3, 3, 112, 112)
    with torch.no_grad():
        wanted = network(x).numpy()
    (found,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_insightface_routes_the_files_to_its_own_classes(untrained_pack):
    analysis = load_pack(untrained_pack)
    assert type(analysis.models["detection"]).__name__ in {"SCRFD", "RetinaFace"}
    assert type(analysis.models["recognition"]).__name__ == "ArcFaceONNX"
    assert analysis.models["detection"].use_kps
    assert analysis.models["recognition"].input_mean == 127.5
    assert analysis.models["recognition"].input_std == 127.5


def test_margin_lowers_only_the_own_score():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(6, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    people = [0, 0, 1, 1, 1, 2]
    vectors, people = np.vstack([vectors, vectors[5:] + 0.1]), [*people, 2]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = recogniser.margin_logits(torch.tensor(vectors), torch.tensor(people)).numpy()
    for i, person in enumerate(people):
        for other in range(3):
            members = [k for k, p in enumerate(people) if p == other and k != i]
            centre = vectors[members].sum(0)
            cosine = vectors[i] @ centre / np.linalg.norm(centre)
            if other == person:
                cosine = np.cos(np.arccos(cosine) + 0.2)
            assert logits[i, other] == pytest.approx(20 * cosine, abs=1e-4)


def test_training_continues_where_it_was_interrupted(few, tmp_path):
    whole = detector.train_detector(
        few, tmp_path / "a.pt", budget=Budget(steps=2), batch_size=4, seed=3
    )
    assert not whole.training
    resumed = detector.train_detector(
        few, tmp_path / "a.pt", budget=Budget(steps=2), batch_size=4, seed=3
    )
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    network = recogniser.train_recogniser(
        few, tmp_path / "b.pt", budget=Budget(steps=2), groups=1, scenes=2, seed=3
    )
    assert network(torch.zeros(1, 3, 112, 112)).shape == (1, recogniser.EMBEDDING)


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 1, 1), (2, 2, 3, 3), 0.0),
    ],
)
def test_overlap(a, b, share):
    assert overlap(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(share)


@needs_weights
def test_trained_detector_finds_unseen_faces():
    quality = measure_detector(PACK, portraits=40, others=24, seed=77_001)
    assert quality.recall >= 0.97
    assert quality.precision >= 0.97
    assert quality.one_face >= 0.95
    assert quality.confidence_50 >= 0.95
    assert quality.landmark_error < 0.06


@needs_weights
def test_trained_detector_works_on_enlarged_images():
    import cv2

    analysis = load_pack(PACK, (256, 256))
    drawn = draw_people(77_002, 0, 12, scenes=1)
    for image, boxes in zip(drawn.images, drawn.boxes, strict=True):
        large = cv2.resize(image, (384, 384), interpolation=cv2.INTER_CUBIC)
        faces = find_faces(analysis, large)
        assert match_faces(faces, 3 * boxes[:1])[0] == 1
        assert len(faces) == 1


@needs_weights
def test_trained_recogniser_tells_unseen_people_apart():
    quality = measure_recogniser(PACK, people=18, scenes=3, seed=77_003)
    assert quality.true_accepts >= 0.85
    assert quality.found >= 0.97


@needs_weights
def test_face_pack_is_small():
    assert sum(file.stat().st_size for file in PACK.glob("*.onnx")) < 4_000_000
