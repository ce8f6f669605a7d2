//! Geometric types: objects with coordinates, or with the bytes of well-known binary (WKB) and what it can't say.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ValueError;
use super::binary::base64;
use super::number::append_float;
use crate::text::push_fmt;
use crate::vocabulary::schema::Shape;

/// All the fields that any shape has.
#[derive(Deserialize)]
struct Geometry<'a> {
    #[serde(borrow)]
    x: Option<&'a RawValue>,
    #[serde(borrow)]
    y: Option<&'a RawValue>,
    #[serde(borrow)]
    a: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a RawValue>,
    #[serde(borrow)]
    c: Option<&'a RawValue>,
    #[serde(borrow)]
    radius: Option<&'a RawValue>,
    #[serde(borrow)]
    center: Option<&'a RawValue>,
    #[serde(borrow)]
    wkb: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<Extensions<'a>>,
}

#[derive(Deserialize)]
struct Extensions<'a> {
    closed: Option<&'a str>,
}

/// Appends a shape as PostgreSQL reads it.
pub(super) fn append_shape(shape: Shape, raw: &str, out: &mut String) -> Result<(), ValueError> {
    let wrong = || ValueError::unexpected("an object with the parts of the shape", raw);
    let geometry: Geometry<'_> = serde_json::from_str(raw).map_err(|_| wrong())?;
    let points = || -> Result<Vec<Point>, ValueError> {
        points(&base64(geometry.wkb.ok_or_else(wrong)?.get())?).ok_or_else(wrong)
    };
    match shape {
        Shape::Point => append_list('(', &[geometry.x, geometry.y], ')', out).ok_or_else(wrong)?,
        Shape::Line => {
            append_list('{', &[geometry.a, geometry.b, geometry.c], '}', out).ok_or_else(wrong)?;
        }
        Shape::Circle => {
            out.push('<');
            append_shape(Shape::Point, geometry.center.ok_or_else(wrong)?.get(), out)?;
            out.push(',');
            append_float(geometry.radius.ok_or_else(wrong)?.get(), out)?;
            out.push('>');
        }
        Shape::Lseg => match points()?.as_slice() {
            ends @ [_, _] => append_points('[', ends, ']', out),
            _ => return Err(wrong()),
        },
        // The ring starts in the upper right corner; the third point is opposite.
        Shape::Box => match points()?.as_slice() {
            [high, _, low, _, _] => {
                append_point(*high, out);
                out.push(',');
                append_point(*low, out);
            }
            _ => return Err(wrong()),
        },
        Shape::Path => match geometry.extensions.as_ref().and_then(|e| e.closed) {
            Some("true") => append_points('(', &points()?, ')', out),
            Some("false") => append_points('[', &points()?, ']', out),
            _ => return Err(wrong()),
        },
        Shape::Polygon => {
            let mut ring = points()?;
            // A ring ends where it began; PostgreSQL's polygons need not say so.
            if ring.len() > 1 && ring.first().map(Point::bits) == ring.last().map(Point::bits) {
                ring.pop();
            }
            append_points('(', &ring, ')', out);
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
}

impl Point {
    /// Equal also where the numbers are not, as NaN.
    fn bits(&self) -> (u64, u64) {
        (self.x.to_bits(), self.y.to_bits())
    }
}

/// The points of a WKB line string (2) or of the only ring of a polygon (3), in little-endian order.
fn points(wkb: &[u8]) -> Option<Vec<Point>> {
    let (header, rest) = wkb.split_first_chunk::<5>()?;
    let rest = match header {
        [1, 2, 0, 0, 0] => rest,
        [1, 3, 0, 0, 0] => rest.strip_prefix(&[1, 0, 0, 0])?,
        _ => return None,
    };
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    if rest.len() != count.checked_mul(16)? {
        return None;
    }
    let number = |bytes: &[u8]| bytes.try_into().ok().map(f64::from_le_bytes);
    rest.chunks_exact(16).map(|p| Some(Point { x: number(&p[..8])?, y: number(&p[8..])? })).collect()
}

fn append_list(open: char, numbers: &[Option<&RawValue>], close: char, out: &mut String) -> Option<()> {
    out.push(open);
    for (i, number) in numbers.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        append_float(number.as_ref()?.get(), out).ok()?;
    }
    out.push(close);
    Some(())
}

fn append_points(open: char, points: &[Point], close: char, out: &mut String) {
    out.push(open);
    for (i, point) in points.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        append_point(*point, out);
    }
    out.push(close);
}

fn append_point(point: Point, out: &mut String) {
    out.push('(');
    append_f64(point.x, out);
    out.push(',');
    append_f64(point.y, out);
    out.push(')');
}

/// The shortest digits that give the same number again.
fn append_f64(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("NaN");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        push_fmt(out, format_args!("{number:e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shape: Shape, raw: &str) -> String {
        let mut out = String::new();
        append_shape(shape, raw, &mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
    }

    #[test]
    fn every_shape_as_the_connector_sends_it() {
        for (shape, raw, expected) in [
            (Shape::Point, r#"{"x":"NaN","y":-0.0,"wkb":"AQ==","srid":null}"#, "(NaN,-0.0)"),
            (Shape::Line, r#"{"a":-1.0,"b":0.1,"c":1.0E300}"#, "{-1.0,0.1,1.0E300}"),
            (
                Shape::Lseg,
                r#"{"wkb":"AQIAAAACAAAAAAAAAAAA8D8AAAAAAAAAQAAAAAAAAAhAAAAAAAAAEEA=","srid":null,"extensions":{"type":"lseg"}}"#,
                "[(1e0,2e0),(3e0,4e0)]",
            ),
            (
                Shape::Path,
                r#"{"wkb":"AQIAAAABAAAAmpmZmZmZuT8AAAAAAAAAQA==","srid":null,"extensions":{"type":"path","closed":"false"}}"#,
                "[(1e-1,2e0)]",
            ),
            (
                Shape::Polygon,
                r#"{"wkb":"AQMAAAABAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADwPwAAAAAAAPA/AAAAAAAA8D8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","srid":null}"#,
                "((0e0,0e0),(1e0,1e0),(1e0,0e0))",
            ),
            (
                Shape::Circle,
                r#"{"center":{"x":0.1,"y":-2.5,"wkb":"AQ==","srid":null},"radius":1.0E300}"#,
                "<(0.1,-2.5),1.0E300>",
            ),
        ] {
            assert_eq!(text(shape, raw), expected, "{shape:?}");
        }
    }

    #[test]
    fn damaged_shapes_are_refused() {
        for (shape, raw) in [
            (Shape::Point, r#"{"x":1}"#),
            (Shape::Line, "{}"),
            (Shape::Lseg, r#"{"wkb":"AQIAAAD/////"}"#),
            (Shape::Box, r#"{"wkb":"AQIAAAACAAAAAAAAAAAA8D8AAAAAAAAAQAAAAAAAAAhAAAAAAAAAEEA="}"#),
            (Shape::Path, r#"{"wkb":"AQIAAAABAAAAmpmZmZmZuT8AAAAAAAAAQA=="}"#),
            (Shape::Polygon, r#"{"wkb":"AA=="}"#),
            (Shape::Circle, r#"{"center":{},"radius":1}"#),
        ] {
            assert!(text(shape, raw).starts_with("refused"), "{shape:?} {raw}");
        }
    }
}
