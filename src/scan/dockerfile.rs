//! Dockerfiles and Containerfiles, by the Dockerfile reference: parser directives, continued lines, here-documents,
//! `ARG` before and in stages, `FROM`, `COPY --from`, `RUN --mount=from=`, `# syntax=`.
//!
//! Existing parsers don't support here-documents and the escape directive, so they report wrong positions after them.
//! Only instructions that name images are parsed here; the rest is skipped.

use std::collections::HashMap;
use std::path::Path;

use super::text::{self, Syntax};
use super::{File, Piece};

pub(super) fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let names = ["dockerfile", "containerfile"];
    let fits = |base: &&str| {
        let before = name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_']));
        before || name.strip_suffix(base).is_some_and(|rest| rest.ends_with(['.', '-', '_']))
    };
    !name.ends_with(".dockerignore") && !name.ends_with(".containerignore") && names.iter().any(fits)
}

/// Characters with their byte offsets.
type Characters = Vec<(usize, char)>;

pub(super) fn read(file: &mut File) {
    let source = file.text.clone();
    let directives = directives(&source);
    for (key, at, value) in &directives.all {
        if key == "syntax" {
            let characters: Characters = value.char_indices().map(|(index, c)| (at + index, c)).collect();
            add(file, &characters, &Scope { escape: directives.escape, ..Scope::default() });
        }
    }
    let mut scope = Scope { escape: directives.escape, ..Scope::default() };
    for instruction in instructions(&source, directives.end, directives.escape) {
        scope.take(file, &instruction);
    }
}

struct Directives {
    /// Key in lower case, offset of the value, value.
    all: Vec<(String, usize, String)>,
    escape: char,
    /// Where instructions begin.
    end: usize,
}

/// The directives `# key=value`, which end at the first other line.
fn directives(source: &str) -> Directives {
    let bom = source.len() - source.trim_start_matches('\u{feff}').len();
    let mut directives = Directives { all: Vec::new(), escape: '\\', end: bom };
    for line in source[bom..].split_inclusive('\n') {
        let comment = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('='));
        let Some((key, value)) = comment else { break };
        let key = key.trim().to_ascii_lowercase();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            break;
        }
        let at = directives.end + line.len() - value.trim_start().len();
        if key == "escape" && value.trim() == "`" {
            directives.escape = '`';
        }
        directives.all.push((key, at, value.trim().to_owned()));
        directives.end += line.len();
    }
    directives
}

/// The instructions from `start` on, each as one line: continuations joined, comments and here-documents left out.
fn instructions(source: &str, start: usize, escape: char) -> Vec<Characters> {
    let mut all = Vec::new();
    let mut current: Characters = Vec::new();
    let mut lines = source[start..].split_inclusive('\n').scan(start, |at, line| {
        let begin = *at;
        *at += line.len();
        Some((begin, line))
    });
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') || (trimmed.is_empty() && !current.is_empty()) {
            continue;
        }
        let body = line.trim_end();
        let continued = body.ends_with(escape);
        let kept = if continued { &body[..body.len() - escape.len_utf8()] } else { body };
        current.extend(kept.char_indices().map(|(index, c)| (at + index, c)));
        if continued {
            continue;
        }
        for (delimiter, strips_tabs) in here_documents(&current) {
            let is_end = |line: &str| {
                let line = line.trim_end_matches(['\n', '\r']);
                (if strips_tabs { line.trim_start_matches('\t') } else { line }) == delimiter
            };
            lines.by_ref().find(|(_, line)| is_end(line));
        }
        all.push(std::mem::take(&mut current));
    }
    all.push(current);
    all.retain(|instruction| !instruction.is_empty());
    all
}

/// The delimiters of the here-documents that an instruction opens, and whether leading tabs are ignored.
fn here_documents(instruction: &[(usize, char)]) -> Vec<(String, bool)> {
    let line: String = instruction.iter().map(|(_, c)| *c).collect();
    let first = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let inner = line.split_whitespace().nth(1).unwrap_or_default().to_ascii_uppercase();
    let takes = |word: &str| matches!(word, "RUN" | "COPY" | "ADD");
    let may_open = takes(&first) || (first == "ONBUILD" && takes(&inner));
    if !may_open {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, _) in line.match_indices("<<") {
        // <<< is a here-string of the shell.
        if line[at + 2..].starts_with('<') || line[..at].ends_with('<') {
            continue;
        }
        let rest = &line[at + 2..];
        let strips_tabs = rest.starts_with('-');
        let word = rest.trim_start_matches('-').trim_start_matches(['"', '\'']);
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(word.len());
        if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            found.push((word[..end].to_owned(), strips_tabs));
        }
    }
    found
}

/// The state while reading a file.
#[derive(Default)]
struct Scope {
    escape: char,
    /// `ARG` before the first `FROM`.
    global: HashMap<String, Option<Vec<Piece>>>,
    /// `ARG` and `ENV` in the stage; `None` before the first.
    stage: Option<HashMap<String, Option<Vec<Piece>>>>,
    /// Names of stages, in lower case.
    stages: Vec<String>,
}

impl Scope {
    fn take(&mut self, file: &mut File, instruction: &[(usize, char)]) {
        let mut words = words(instruction);
        let mut name = upper(words.first().copied().unwrap_or_default());
        if name == "ONBUILD" && words.len() > 1 {
            words.remove(0);
            name = upper(words[0]);
        }
        let arguments = words.get(1..).unwrap_or_default();
        match name.as_str() {
            "ARG" => arguments.iter().for_each(|word| self.argument(file, word)),
            "FROM" => self.from(file, arguments),
            "COPY" => {
                for value in arguments.iter().filter_map(|word| strip(word, "--from=")) {
                    self.image_or_stage(file, value);
                }
            }
            "RUN" => {
                for mount in arguments.iter().filter_map(|word| strip(word, "--mount=")) {
                    for value in mount.split(|(_, c)| *c == ',').filter_map(|part| strip(part, "from=")) {
                        self.image_or_stage(file, value);
                    }
                }
            }
            _ => {}
        }
    }

    /// `ARG NAME[=DEFAULT]`
    fn argument(&mut self, file: &File, word: &[(usize, char)]) {
        let split = word.iter().position(|(_, c)| *c == '=');
        let name: String = word[..split.unwrap_or(word.len())].iter().map(|(_, c)| *c).collect();
        let default = split.and_then(|at| {
            let value = unquoted(&word[at + 1..]);
            if value.is_empty() {
                let at = word[at].0 + 1;
                return Some(vec![Piece { value: String::new(), span: at..at, variable: None, is_own: false }]);
            }
            text::expand(value, &self.syntax(), &|name| self.value(name)).ok()
        });
        let is_own = uses(&file.text, &name) == 1;
        let default = default.map(|pieces| pieces.into_iter().map(|piece| Piece { is_own, ..piece }).collect());
        match &mut self.stage {
            None => drop(self.global.insert(name, default)),
            // Without a default, the value from before the first FROM applies.
            Some(stage) => {
                let inherited = default.or_else(|| self.global.get(&name).cloned().flatten());
                stage.insert(name, inherited);
            }
        }
    }

    /// `FROM [--platform=…] IMAGE [AS NAME]`
    fn from(&mut self, file: &mut File, arguments: &[&[(usize, char)]]) {
        let words: Vec<_> = arguments.iter().filter(|word| strip(word, "--").is_none()).collect();
        self.stage = None;
        if let Some(image) = words.first() {
            self.image_or_stage(file, image);
        }
        self.stage = Some(HashMap::new());
        if let [_, keyword, name, ..] = words[..]
            && upper(keyword) == "AS"
        {
            self.stages.push(name.iter().flat_map(|(_, c)| c.to_lowercase()).collect());
        }
    }

    fn image_or_stage(&self, file: &mut File, word: &[(usize, char)]) {
        let word = unquoted(word);
        let text: String = word.iter().flat_map(|(_, c)| c.to_lowercase()).collect();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !(text == "scratch" || is_number || self.stages.contains(&text)) {
            add(file, word, self);
        }
    }

    fn value(&self, name: &str) -> Option<Vec<Piece>> {
        self.stage.as_ref().unwrap_or(&self.global).get(name).cloned().flatten()
    }

    fn syntax(&self) -> Syntax {
        Syntax { escape: Some(self.escape), doubled: false }
    }
}

fn add(file: &mut File, word: &[(usize, char)], scope: &Scope) {
    let Some((at, _)) = word.first().copied() else { return };
    match text::expand(word, &scope.syntax(), &|name| scope.value(name)) {
        Ok(pieces) => {
            let name = text::joined(&pieces).to_lowercase();
            if name != "scratch" && !scope.stages.contains(&name) {
                file.add_pieces(at, pieces, false);
            }
        }
        Err(why) => file.add_unresolved(at, word.iter().map(|(_, c)| *c).collect::<String>(), why),
    }
}

/// How often `text` uses the variable `name`.
fn uses(text: &str, name: &str) -> usize {
    let braced: usize = ['}', ':', '-'].map(|end| text.matches(&format!("${{{name}{end}")).count()).iter().sum();
    let plain = format!("${name}");
    let plain = text
        .match_indices(&plain)
        .filter(|(at, found)| !text[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
    braced + plain.count()
}

fn words(instruction: &[(usize, char)]) -> Vec<&[(usize, char)]> {
    instruction.split(|(_, c)| c.is_whitespace()).filter(|word| !word.is_empty()).collect()
}

fn upper(word: &[(usize, char)]) -> String {
    word.iter().flat_map(|(_, c)| c.to_uppercase()).collect()
}

/// The rest of `word` after `prefix`, if it begins with that.
fn strip<'w>(word: &'w [(usize, char)], prefix: &str) -> Option<&'w [(usize, char)]> {
    let len = prefix.chars().count();
    let begins = word.len() >= len && word.iter().map(|(_, c)| *c).zip(prefix.chars()).all(|(a, b)| a == b);
    begins.then(|| &word[len..])
}

fn unquoted(word: &[(usize, char)]) -> &[(usize, char)] {
    match word {
        [(_, open @ ('"' | '\'')), inner @ .., (_, close)] if open == close => inner,
        _ => word,
    }
}
