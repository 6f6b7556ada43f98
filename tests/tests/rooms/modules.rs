//! The modules of a crate, and which of its other modules each one names.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module in a file of its own. Paths are from the root of the crate, which is `[]`.
pub(crate) struct Module {
    /// Where it is.
    pub(crate) path: Vec<String>,
    /// The modules that it names, its tests left out.
    pub(crate) uses: Vec<Vec<String>>,
}

/// A module's file as it was read.
#[derive(Default)]
struct Read {
    /// Paths that begin with `crate`, `self` or `super`, made absolute.
    names: Vec<Vec<String>>,
    /// What `use` brings in: the name, and the absolute path.
    brought: Vec<(String, Vec<String>)>,
}

/// All modules of the crate whose sources lie in `folder`, tests left out.
pub(crate) fn modules(folder: &Path) -> Vec<Module> {
    let mut files = Vec::new();
    sources(folder, &mut files);
    let path_of = |file: &PathBuf| {
        let relative = file.strip_prefix(folder).unwrap().with_extension("");
        let mut path: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            path.pop();
        }
        path
    };
    let files: Vec<(Vec<String>, PathBuf)> = files.into_iter().map(|file| (path_of(&file), file)).collect();
    let files = files.into_iter().filter(|(path, _)| !path.iter().any(|part| part == "tests"));
    let read: BTreeMap<Vec<String>, Read> = files.fold(BTreeMap::new(), |mut read: BTreeMap<_, Read>, (path, file)| {
        let tokens = TokenStream::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let module = read.entry(path.clone()).or_default();
        Reader { path, inline: 0, read: module }.tokens(tokens);
        read
    });
    let uses = |module: &Read| {
        let brought = module.brought.iter().map(|(_, path)| path);
        module.names.iter().chain(brought).filter_map(|path| resolve(&read, path, 8)).collect()
    };
    read.iter().map(|(path, module)| Module { path: path.clone(), uses: uses(module) }).collect()
}

/// The module that a path leads to, through what other modules pass on.
fn resolve(read: &BTreeMap<Vec<String>, Read>, path: &[String], hops: usize) -> Option<Vec<String>> {
    let known = (0..=path.len()).rev().find(|&length| read.contains_key(&path[..length]))?;
    let (module, rest) = path.split_at(known);
    let passed_on = rest.first().and_then(|name| read[module].brought.iter().find(|(brought, _)| brought == name));
    match passed_on {
        Some((_, target)) if hops > 0 && target != path => {
            let further: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
            resolve(read, &further, hops - 1)
        }
        _ => Some(module.to_vec()),
    }
}

/// All Rust files in a folder and the folders in it.
pub(crate) fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            sources(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// Reads the tokens of one file.
struct Reader<'a> {
    path: Vec<String>,
    /// Modules within the file around the tokens that are read.
    inline: usize,
    read: &'a mut Read,
}

impl Reader<'_> {
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.item(&tokens, at);
        }
    }

    /// Reads what begins at `at`; says where the next begins.
    fn item(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        if is_mark(tokens.get(at), '#') && tokens.get(at + 1).is_some_and(|next| next.to_string() == "[cfg (test)]") {
            return end_of_item(tokens, at + 2);
        }
        if is_mark(tokens.get(at), '$') {
            return at + 2; // `$crate` is the crate of whoever uses the macro
        }
        match &tokens[at] {
            TokenTree::Group(group) => self.tokens(group.stream()),
            TokenTree::Ident(word) if word == "use" => {
                let mut tree = Tree::default();
                let end = tree.read(tokens, at + 1, &[]);
                for (name, path) in tree.paths {
                    if let Some(path) = self.absolute(&path, true) {
                        self.read.brought.push((name, path));
                    }
                }
                return end;
            }
            TokenTree::Ident(word) if word == "mod" => {
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                    self.inline += 1;
                    self.tokens(body.stream());
                    self.inline -= 1;
                    return at + 3;
                }
            }
            TokenTree::Ident(word) if is_start(&word.to_string()) && is_path(tokens, at + 1) => {
                let mut tree = Tree::default();
                let end = tree.read(tokens, at, &[]);
                for (_, path) in tree.paths {
                    self.read.names.extend(self.absolute(&path, false));
                }
                return end;
            }
            _ => {}
        }
        at + 1
    }

    /// A path from the root of the crate, if it leads into it. `bare` paths begin with a module here, or another crate's name.
    fn absolute(&self, path: &[String], bare: bool) -> Option<Vec<String>> {
        let mut rest = path;
        let mut base = self.path.clone();
        let mut inline = self.inline;
        match rest.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &rest[1..]),
            start if is_start(start) => {
                while let Some((first, after)) = rest.split_first()
                    && is_start(first)
                {
                    if first == "super" {
                        if inline > 0 {
                            inline -= 1;
                        } else {
                            base.pop();
                        }
                    }
                    rest = after;
                }
            }
            _ if bare => {}
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }
}

fn is_start(word: &str) -> bool {
    ["crate", "self", "super"].contains(&word)
}

fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_mark(tokens.get(at), ':') && is_mark(tokens.get(at + 1), ':')
}

/// Behind the next block or semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_mark(Some(token), ';'),
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |end| at + end + 1)
}

/// The paths of a `use`, each with the name that it brings in.
#[derive(Default)]
struct Tree {
    paths: Vec<(String, Vec<String>)>,
}

impl Tree {
    fn read(&mut self, tokens: &[TokenTree], mut at: usize, before: &[String]) -> usize {
        let mut path = before.to_vec();
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) => path.push(word.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let mut within = 0;
                    while within < inner.len() {
                        within = self.read(&inner, within, &path);
                        if is_mark(inner.get(within), ',') {
                            within += 1;
                        }
                    }
                    return at + 1;
                }
                Some(_) => path.push("*".into()),
                None => break,
            }
            at += 1;
            if !is_path(tokens, at) {
                break;
            }
            at += 2;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if name == "self" && path.len() > 1 {
            path.pop();
            name = path.last().cloned().unwrap_or_default();
        }
        if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(other))) = (tokens.get(at), tokens.get(at + 1))
            && word == "as"
        {
            name = other.to_string();
            at += 2;
        }
        self.paths.push((name, path));
        at
    }
}
