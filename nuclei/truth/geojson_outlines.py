"""Outlines in GeoJSON, as QuPath's versions 0.2 to 0.6 write it.

    drawn = geojson_outlines(json.loads(text))

Format: RFC 7946, and
https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from nuclei.polygons import Polygon
from nuclei.truth.outline import IGNORED, NO_GEOMETRY, REGIONS, SPOTS, Drawn, ring_of

AREAS = ("Polygon", "MultiPolygon")  # geometries of GeoJSON that enclose pixels
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
# Kinds of objects in QuPath, lower case. Version 0.2 wrote them as ids, such as PathCellObject.
CELLS = ("cell", "pathcellobject")
DETECTIONS = ("detection", "pathdetectionobject", *CELLS)
HOLDERS = ("root", "tile", "tmacore", "pathrootobject", "pathtileobject", "tmacoreobject")


def geojson_outlines(data) -> Drawn:
    """The areas of a GeoJSON file, as QuPath understands its objects.

    Cells count by their nucleus. An object around others (`childObjects`) is their region, and what
    lies inside of a detection is a part of it.

    Args:
        data: a FeatureCollection, a Feature, a geometry or a list of them.
    """
    drawn = Drawn()
    # (object, whether it lies inside of a detection); a stack, since objects nest at any depth.
    stack = [(data, False)]

    def read(entry):
        item, in_detection = entry
        if isinstance(item, list):
            stack.extend((part, in_detection) for part in reversed(item))
        elif isinstance(item, dict) and item.get("type") == "FeatureCollection":
            stack.append((item.get("features") or [], in_detection))
        elif in_detection:
            drawn.leave_out(SPOTS)
        else:
            children = read_feature(item, drawn)
            is_detection = kind_of(item) in DETECTIONS
            stack.extend((child, is_detection) for child in reversed(children))

    while stack:
        drawn.try_each([stack.pop()], read)
    return drawn


def read_feature(feature: dict, drawn: Drawn) -> list:
    """Add the outline of one Feature or bare geometry to `drawn`.

    Returns:
        Its child objects.

    Raises:
        ValueError: it is damaged or of an unknown kind.
    """
    if not isinstance(feature, dict):
        raise ValueError(f"{str(feature)[:40]!r} is no object of GeoJSON")
    properties = feature.get("properties") or {}
    children = properties.get("childObjects") or feature.get("childObjects") or []
    kind = kind_of(feature)
    if kind in HOLDERS:
        drawn.leave_out(REGIONS)
        return children
    if class_of(properties).endswith("*"):
        drawn.leave_out(IGNORED)
        return children
    is_feature = feature.get("type") == "Feature" or "geometry" in feature
    geometry = feature.get("geometry") if is_feature else feature
    nucleus = feature.get("nucleusGeometry") or properties.get("nucleusGeometry")
    polygons = geojson_polygons(nucleus) if nucleus else None
    if not polygons and not geometry:
        drawn.leave_out(NO_GEOMETRY)
    elif children and kind not in DETECTIONS and any(map(has_area, children)):
        drawn.leave_out(REGIONS)
    else:
        drawn.num_whole_cells += kind in CELLS and not polygons
        polygons = polygons or geojson_polygons(geometry)
        if isinstance(plane := (geometry or {}).get("plane"), dict):
            drawn.planes.add(str(plane.get("z", 0)))
        drawn.add(polygons, may_be_region=kind not in DETECTIONS)
    return children


def kind_of(feature) -> str:
    """The kind of a QuPath object in lower case; "annotation" where the file does not say it."""
    properties = feature.get("properties") or {}
    names = [properties.get(key) for key in ("objectType", "object_type", "type")]
    kind = str(next((name for name in names if name), feature.get("id") or "")).lower()
    return kind if kind in DETECTIONS + HOLDERS else "annotation"


def class_of(properties: dict) -> str:
    """The class of an object: a text, or a dictionary with a name or with several."""
    value = properties.get("classification") or ""
    if isinstance(value, dict):
        value = value.get("name") or value.get("names") or ""
    return ": ".join(map(str, value)) if isinstance(value, list) else str(value)


def has_area(feature) -> bool:
    """Whether an object, or what it holds, can enclose pixels."""
    stack = [feature]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if item.get("type") in AREAS:
                return True
            stack.extend(value for value in item.values() if isinstance(value, dict | list))
        elif isinstance(item, list):
            stack.extend(part for part in item if isinstance(part, dict))
    return False


def geojson_polygons(geometry: dict) -> list[Polygon]:
    """The polygons of a GeoJSON geometry, [] where it is a point or a line.

    Raises:
        ValueError: it is of an unknown kind, or its coordinates are none.
    """
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in geojson_polygons(part)]
    if kind not in AREAS:
        if kind not in NO_AREAS:
            raise ValueError(f"{str(kind)[:40]!r} is no geometry of GeoJSON")
        return []
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [[ring_of(ring) for ring in rings if ring] for rings in polygons if any(rings)]
