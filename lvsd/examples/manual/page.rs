//! A manual as a page for `man`.

use lvsadm::manual::{Block, Face, Manual, spans};
use roff::{Inline, Roff, bold, italic, roman};

/// When the pages were last looked through, which a page has to say.
const DATE: &str = "2026-11-25";

/// The page, in the macros of man(7).
pub(crate) fn render(manual: &Manual) -> String {
    let mut page = Roff::new();
    let section = manual.section.to_string();
    let release = format!("lvs {}", env!("CARGO_PKG_VERSION"));
    let title = manual.name.to_uppercase();
    page.control("TH", [title.as_str(), &section, DATE, &release]);
    page.control("SH", ["NAME"]);
    let mut name = vec![roman(format!("{} - ", manual.name))];
    name.extend(inlines(&manual.summary));
    page.text(name);
    for chapter in &manual.chapters {
        page.control("SH", [chapter.title.as_str()]);
        // A heading begins a paragraph by itself.
        let mut fresh = true;
        for block in &chapter.blocks {
            write_block(&mut page, block, fresh);
            fresh = matches!(block, Block::Title(_));
        }
    }
    in_lines(&page.render())
}

fn write_block(page: &mut Roff, block: &Block, fresh: bool) {
    match block {
        Block::Title(text) => {
            page.control("SS", [lvsadm::manual::plain(text).as_str()]);
        }
        Block::Text(text) => {
            if !fresh {
                page.control("PP", []);
            }
            page.text(inlines(text));
        }
        Block::Usage(text) => {
            if !fresh {
                page.control("PP", []);
            }
            page.text(inlines(text));
        }
        Block::Term { term, text } => {
            page.control("TP", []);
            page.text(inlines(term));
            for (i, paragraph) in text.split("\n\n").enumerate() {
                if i > 0 {
                    page.control("IP", []);
                }
                page.text(inlines(paragraph));
            }
        }
        Block::Example(text) => {
            if !fresh {
                page.control("PP", []);
            }
            page.control("nf", []);
            page.text([roman(text.as_str())]);
            page.control("fi", []);
        }
    }
}

/// The source in lines that a person can read: where a line ends in a text means nothing.
fn in_lines(page: &str) -> String {
    const WIDTH: usize = 80;
    let mut out = String::new();
    let mut filled = true;
    for mut line in page.lines() {
        match line {
            ".nf" => filled = false,
            ".fi" => filled = true,
            _ => {}
        }
        while filled && line.len() > WIDTH && !line.starts_with(['.', '\'']) {
            // A line must not begin with what a command begins with.
            let ends = line.match_indices(' ').filter(|(at, _)| {
                let next = line.get(at + 1..).unwrap_or_default();
                *at > 0 && !next.starts_with(['.', '\'', ' '])
            });
            let all: Vec<usize> = ends.map(|(at, _)| at).collect();
            let last = all.iter().rev().find(|at| **at <= WIDTH);
            let Some(&at) = last.or_else(|| all.first()) else {
                break;
            };
            let (before, after) = line.split_at(at);
            out.push_str(before);
            out.push('\n');
            line = after.trim_start();
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn inlines(text: &str) -> Vec<Inline> {
    let set = |(face, text): (Face, &str)| match face {
        Face::Roman => roman(text),
        Face::Bold => bold(text),
        Face::Italic => italic(text),
    };
    spans(text).map(set).collect()
}
