//! Figures, their medians, and what they have to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::options::{Candidate, Kind};

/// One thing that is measured, with its unit.
type Measure = &'static str;

/// All figures of a run, by measure in the order of their first appearance, and by candidate.
#[derive(Default)]
pub struct Table {
    order: Vec<Measure>,
    figures: BTreeMap<(Measure, usize), Vec<f64>>,
}

/// What a figure, or the ratio of two, has to be.
pub struct Demand {
    pub measure: Measure,
    pub floor: Option<f64>,
    pub aim: Option<f64>,
    /// Whether more is better.
    pub more: bool,
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn number(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

impl Table {
    /// One figure of one round.
    pub fn add(&mut self, measure: Measure, candidate: usize, figure: f64) {
        if !self.order.contains(&measure) {
            self.order.push(measure);
        }
        self.figures.entry((measure, candidate)).or_default().push(figure);
    }

    /// Medians, and between which figures they lie.
    pub fn medians(&self, candidates: &[Candidate]) -> String {
        let mut text =
            String::from("| measure | gateway | median | lowest to highest |\n|---|---|--:|---|\n");
        for measure in &self.order {
            for (index, candidate) in candidates.iter().enumerate() {
                let Some(figures) = self.figures.get(&(*measure, index)) else { continue };
                let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
                let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let (median, low, high) = (number(median(figures)), number(low), number(high));
                let _ = writeln!(text, "| {measure} | {} | {median} | {low} to {high} |", candidate.name);
            }
        }
        text
    }

    /// Each build of Ebb against each gateway of another kind: the median of the ratios of the rounds, so that what else the
    /// machine did in a round weighs on both.
    pub fn ratios(&self, candidates: &[Candidate], against: Kind, demands: &[Demand]) -> String {
        let mut text = String::new();
        for demand in demands {
            for (own, ebb) in of(candidates, Kind::Ebb) {
                for (other, peer) in of(candidates, against) {
                    let figures = [own, other].map(|index| self.figures.get(&(demand.measure, index)));
                    let [Some(own), Some(other)] = figures else { continue };
                    let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| own / other).collect();
                    text += &demand.judge(&format!("{} / {}", ebb.name, peer.name), median(&ratios));
                }
            }
        }
        text
    }

    /// Each build of Ebb by itself.
    pub fn bounds(&self, candidates: &[Candidate], demands: &[Demand]) -> String {
        let mut text = String::new();
        for demand in demands {
            for (index, ebb) in of(candidates, Kind::Ebb) {
                let Some(figures) = self.figures.get(&(demand.measure, index)) else { continue };
                text += &demand.judge(&ebb.name, median(figures));
            }
        }
        text
    }
}

fn of(candidates: &[Candidate], kind: Kind) -> impl Iterator<Item = (usize, &Candidate)> {
    candidates.iter().enumerate().filter(move |(_, candidate)| candidate.kind == kind)
}

impl Demand {
    fn judge(&self, who: &str, figure: f64) -> String {
        let met = |bound: f64| if self.more { figure >= bound } else { figure <= bound };
        let verdict = match (self.floor.is_none_or(met), self.aim.is_none_or(met)) {
            (true, true) => "met",
            (true, false) => "floor met, aim missed",
            (false, _) => "**floor missed**",
        };
        let sign = if self.more { "≥" } else { "≤" };
        let bound = |bound: Option<f64>| bound.map_or_else(String::new, |bound| format!("{sign} {bound}"));
        let (measure, floor, aim) = (self.measure, bound(self.floor), bound(self.aim));
        format!("| {measure} | {who} | {} | {floor} | {aim} | {verdict} |\n", number(figure))
    }
}
