"""Vertices near each vertex, sensors near each sensor, and windows of time."""

import heapq

import numpy as np
import pytest

import fastrdm
from fastrdm.searchlight import sensor_neighbours, surface_neighbours, time_windows, to_surface


def sheet(n=6):
    """A crumpled sheet of n × n vertices."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), rng.random(n * n)], axis=1)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = [[corner, corner + 1, corner + n], [corner + 1, corner + n + 1, corner + n]]
    return vertices, np.concatenate([np.stack(each, axis=1) for each in triangles])


def walk(vertices, faces, source, length, allowed):
    """Distances from a vertex by Dijkstra's algorithm, one vertex at a time."""
    edges = {
        tuple(edge)
        for a, b, c in faces
        for edge in ((a, b), (b, a), (b, c), (c, b), (a, c), (c, a))
    }
    found, queue = {}, [(0.0, source)]
    while queue:
        distance, vertex = heapq.heappop(queue)
        if vertex in found:
            continue
        found[vertex] = distance
        for a, b in edges:
            if a == vertex and allowed[b]:
                heapq.heappush(queue, (distance + length(vertices[a], vertices[b]), b))
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chosen", [{"radius": 1.7}, {"steps": 2}, {"steps": 1}])
def test_places_are_near_along_edges(chosen, masked):
    vertices, faces = sheet()
    allowed = np.random.default_rng(1).random(36) < 0.8 if masked else np.ones(36, bool)
    found = surface_neighbours(vertices, faces, **chosen, mask=allowed if masked else None)
    channels = np.flatnonzero(allowed)
    assert len(found) == found.n_channels == len(channels)

    def length(a, b):
        return 1 if "steps" in chosen else np.linalg.norm(a - b)

    (limit,) = chosen.values()
    for k, place in enumerate(found):
        near = walk(vertices, faces, channels[k], length, allowed)
        np.testing.assert_array_equal(
            channels[place],
            sorted(vertex for vertex, distance in near.items() if distance <= limit),
        )


def test_blocks_of_vertices_change_nothing(monkeypatch):
    whole = surface_neighbours(*sheet(), radius=2)
    monkeypatch.setattr("fastrdm.searchlight.surfaces._BLOCK", 3000)
    for a, b in zip(whole, surface_neighbours(*sheet(), radius=2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gifti_images_in_and_out(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    vertices, faces = sheet()
    image = nibabel.gifti.GiftiImage()
    for values, intent in (
        (vertices.astype(np.float32), "POINTSET"),
        (faces.astype(np.int32), "TRIANGLE"),
    ):
        image.add_gifti_data_array(
            nibabel.gifti.GiftiDataArray(values, intent=f"NIFTI_INTENT_{intent}")
        )
    nibabel.save(image, tmp_path / "lh.gii")
    expected = surface_neighbours(vertices, faces, radius=1.5)
    for source in (image, tmp_path / "lh.gii", str(tmp_path / "lh.gii")):
        for a, b in zip(surface_neighbours(source, radius=1.5), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    data = np.random.default_rng(0).random((5, 36))
    scores = fastrdm.score_searchlight(data, expected, np.random.default_rng(1).random((2, 10)))
    maps = to_surface(scores, 36, centres=expected, path=tmp_path / "scores.func.gii")
    assert len(maps.darrays) == 2
    back = nibabel.load(tmp_path / "scores.func.gii")
    np.testing.assert_allclose(back.darrays[1].data, scores[:, 1], atol=1e-6)
    mask = np.arange(36) % 2 == 0
    values = to_surface(np.arange(18.0), 36, mask=mask, fill=-1).darrays[0].data
    np.testing.assert_array_equal(values[mask], np.arange(18))
    assert (values[~mask] == -1).all()
    with pytest.raises(ValueError, match="faces are given, and vertices is a GIFTI image"):
        surface_neighbours(image, faces, steps=1)
    with pytest.raises(ValueError, match="without one surface: coordinates and faces"):
        surface_neighbours(maps, steps=1)


VERTICES, FACES = sheet()


@pytest.mark.parametrize(
    ("vertices", "faces", "more", "message"),
    [
        (VERTICES, FACES, {"steps": None}, "pass either radius, a distance along edges, or steps"),
        (VERTICES, FACES, {"radius": 1}, "pass either radius, a distance along edges, or steps"),
        (VERTICES, FACES, {"steps": 0}, "steps must be at least 1, not 0"),
        (VERTICES, FACES, {"steps": None, "radius": -1}, "radius is -1; expected a number above 0"),
        (VERTICES, None, {}, "faces are needed with an array of vertices"),
        (VERTICES[:, :2], FACES, {}, r"vertices have shape \(36, 2\); expected \(vertices, 3\)"),
        (VERTICES * np.nan, FACES, {}, "vertices have coordinates that are NaN or infinite"),
        (VERTICES, FACES[:, :2], {}, r"faces have shape \(50, 2\) and type int64"),
        (VERTICES, FACES + 1.0, {}, r"faces have shape \(50, 3\) and type float64"),
        (VERTICES, FACES + 1, {}, "faces have indices from 1 to 36, and there are 36 vertices"),
        (
            VERTICES,
            FACES,
            {"mask": np.ones(5, bool)},
            r"mask has shape \(5,\) and type bool; expected a bool",
        ),
        (VERTICES, FACES, {"mask": np.zeros(36, bool)}, "mask is empty: no vertex is marked"),
    ],
)
def test_wrong_surfaces_are_refused(vertices, faces, more, message):
    with pytest.raises(ValueError, match=message):
        surface_neighbours(vertices, faces, **{"steps": 1, **more})


@pytest.mark.parametrize("block", [10**6, 1000])
def test_sensors_near_each_sensor(block, monkeypatch):
    monkeypatch.setattr("fastrdm.searchlight.sensors._BLOCK", block)
    positions = np.random.default_rng(0).normal(size=(40, 3))
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    found = sensor_neighbours(positions, k=7)
    assert {len(each) for each in found} == {7}
    for i, place in enumerate(found):
        assert i in place
        assert sorted(distances[i][place]) == sorted(distances[i])[:7]
    for i, place in enumerate(sensor_neighbours(positions, radius=1)):
        np.testing.assert_array_equal(place, np.flatnonzero(distances[i] <= 1))


def test_sensors_at_one_position_come_in_order():
    # As the two gradiometers and the magnetometer of a place.
    found = sensor_neighbours(np.repeat([[0.0, 0, 0], [1, 0, 0]], 3, axis=0), k=2)
    assert [each.tolist() for each in found] == [[0, 1], [0, 1], [0, 2], [3, 4], [3, 4], [3, 5]]


@pytest.mark.filterwarnings("ignore")
def test_positions_of_mne():
    mne = pytest.importorskip("mne")
    places = np.random.default_rng(0).normal(size=(20, 3)) / 10
    montage = mne.channels.make_dig_montage({f"E{i}": place for i, place in enumerate(places)})
    info = mne.create_info(montage.ch_names, 100, "eeg")
    with pytest.raises(
        ValueError, match=r"20 of 20 channels without a position: E0, E1, E2, E3, E4, …"
    ):
        sensor_neighbours(info, k=3)
    info.set_montage(montage)
    positions = np.array([channel["loc"][:3] for channel in info["chs"]])
    for a, b in zip(sensor_neighbours(info, k=5), sensor_neighbours(positions, k=5), strict=True):
        np.testing.assert_array_equal(a, b)
    info["chs"][3]["coord_frame"] = mne._fiff.constants.FIFF.FIFFV_COORD_DEVICE
    with pytest.raises(ValueError, match="positions has channels in 2 frames of coordinates"):
        sensor_neighbours(info, k=3)


@pytest.mark.parametrize(
    ("positions", "more", "message"),
    [
        (np.ones((4, 3)), {}, "pass either k, a number of sensors, or radius, a distance"),
        (np.ones((4, 3)), {"k": 2, "radius": 1}, "pass either k, a number of sensors, or radius"),
        (np.ones((4, 3)), {"k": 5}, "k is 5, and positions has 4 sensors"),
        (np.ones((4, 3)), {"k": 0}, "k must be at least 1, not 0"),
        (np.ones((4, 3)), {"radius": np.inf}, "radius is inf; expected a number above 0"),
        (np.ones(4), {"k": 1}, r"positions have shape \(4,\) and type float64; expected numbers"),
        (np.ones((0, 3)), {"radius": 1}, "positions is empty"),
        ([[0, 0], [np.nan, 0]], {"k": 1}, "positions of sensor 1 are NaN or infinite"),
    ],
)
def test_wrong_positions_are_refused(positions, more, message):
    with pytest.raises(ValueError, match=message):
        sensor_neighbours(positions, **more)


def test_windows_lie_within_the_samples():
    assert time_windows(10, 4, 3) == [range(0, 4), range(3, 7), range(6, 10)]
    assert time_windows(3, 3) == [range(3)]
    assert len(time_windows(200, 20)) == 181
    data = np.random.default_rng(0).random((5, 3, 10))
    assert fastrdm.calc_rdm_movie(data, time_windows(10, 4, 3)).shape == (3, 10)
    with pytest.raises(ValueError, match="width is 4, and there are n_samples = 3"):
        time_windows(3, 4)
    with pytest.raises(ValueError, match="step must be at least 1, not 0"):
        time_windows(3, 1, 0)
    with pytest.raises(ValueError, match="width must be an integer, not 2.5"):
        time_windows(3, 2.5)
