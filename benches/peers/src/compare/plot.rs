//! The plots, as SVG: throughput and latency over commands in flight, over persons in the stream, and over replicas.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::combinators::IntoLogRange;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::measure::Sample;
use super::suites::{EARLIER, REPLICAS};
use super::table::in_order;
use super::{Found, median};

const SIZE: (u32, u32) = (800, 420);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
];

/// A line: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// Draws what there are samples for.
pub fn all(found: &Found, out: &Path) -> Result<(), Box<dyn Error>> {
    let in_flight = |load: &str| load.strip_prefix("uniform, ")?.strip_suffix(" in flight")?.parse().ok();
    let persons = |load: &str| load.strip_suffix(" persons")?.parse().ok();
    let of = |suite: &str| found.samples.iter().filter(|sample| sample.suite == suite).collect::<Vec<_>>();
    let ceilings = of("ceilings");
    let rates = lines(&ceilings, "per_second", "", in_flight);
    draw(&out.join("throughput.svg"), "commands a second over commands in flight", &rates, Axes::LogX)?;
    let mut latencies = lines(&ceilings, "p50_ms", " p50", in_flight);
    latencies.extend(lines(&ceilings, "p99_ms", " p99", in_flight));
    latencies.retain(|(name, _)| name.starts_with("person-service") || name.starts_with("bare loop"));
    draw(&out.join("latency.svg"), "milliseconds to the reply over commands in flight", &latencies, Axes::Log)?;
    let rates = lines(&of("persons"), "per_second", "", persons);
    draw(&out.join("persons.svg"), "commands a second, 512 in flight, over persons in the stream", &rates, Axes::LogX)?;
    let rates = over_replicas(&of("replicas"));
    draw(&out.join("replicas.svg"), "commands a second over replicas on two cores", &rates, Axes::Linear)
}

/// One line for each build and load.
fn over_replicas(samples: &[&Sample]) -> Vec<Line> {
    let mut lines = Vec::new();
    for load in in_order(samples.iter().map(|sample| sample.load.as_str())) {
        for build in ["person-service", EARLIER] {
            let point = |replicas: &usize| {
                let who = if *replicas == 1 && build != EARLIER {
                    build.to_owned()
                } else {
                    format!("{build} × {replicas}")
                };
                let mine = samples.iter().filter(|sample| sample.load == load && sample.who == who);
                let rates = mine.filter_map(|sample| sample.figures.get("per_second").copied()).collect();
                Some((*replicas as f64, median(rates)?))
            };
            let points: Vec<_> = REPLICAS.iter().filter_map(point).collect();
            if points.len() > 1 {
                lines.push((format!("{build}, {load}"), points));
            }
        }
    }
    lines
}

/// How the axes count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Axes {
    Linear,
    LogX,
    Log,
}

/// One line for each who was measured, where at least two loads have an x.
fn lines(samples: &[&Sample], figure: &str, ending: &str, x: impl Fn(&str) -> Option<f64>) -> Vec<Line> {
    let mut lines = Vec::new();
    for who in in_order(samples.iter().map(|sample| sample.who.as_str())) {
        let mine: Vec<_> = samples.iter().filter(|sample| sample.who == who).collect();
        let point = |load: &str| {
            let values = mine.iter().filter(|s| s.load == load).filter_map(|s| s.figures.get(figure).copied());
            Some((x(load)?, median(values.collect())?))
        };
        let points: Vec<_> =
            in_order(mine.iter().map(|sample| sample.load.as_str())).into_iter().filter_map(point).collect();
        if points.len() > 1 {
            lines.push((format!("{who}{ending}"), points));
        }
    }
    lines
}

fn draw(file: &Path, title: &str, lines: &[Line], axes: Axes) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    if points().next().is_none() {
        return Ok(());
    }
    let range = |values: Vec<f64>| -> Range<f64> {
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        least..most * 1.1
    };
    let x = range(points().map(|(x, _)| *x).collect());
    let y = range(points().map(|(_, y)| *y).collect());
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder.caption(title, ("sans-serif", 16)).margin(10).x_label_area_size(30).y_label_area_size(60);
    // Each kind of axis is a type of its own.
    match axes {
        Axes::Log => {
            draw_lines(
                builder.build_cartesian_2d(x.log_scale(), y.log_scale())?,
                lines,
                SeriesLabelPosition::UpperLeft,
            )?;
        }
        Axes::LogX => {
            draw_lines(builder.build_cartesian_2d(x.log_scale(), 0.0..y.end)?, lines, SeriesLabelPosition::LowerRight)?;
        }
        Axes::Linear => draw_lines(builder.build_cartesian_2d(x, 0.0..y.end)?, lines, SeriesLabelPosition::UpperRight)?,
    }
    root.present()?;
    Ok(())
}

/// A number as people write it: `30,000`, `2.5`.
fn label(value: f64) -> String {
    if value < 1000.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// The lines and their names, on axes of any kind.
fn draw_lines<
    'a,
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    lines: &[Line],
    names_at: SeriesLabelPosition,
) -> Result<(), Box<dyn Error>> {
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).x_label_formatter(&|x| label(*x)).y_label_formatter(&|y| label(*y)).draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3))?;
        drawn.label(name).legend(|(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], *colour));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).position(names_at).draw()?;
    Ok(())
}
