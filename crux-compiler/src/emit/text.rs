//! Generated items become text one by one, so that blank lines and comments stand where a person
//! would put them; `prettyplease` knows neither.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// Items of one module, in order.
#[derive(Debug, Default)]
pub(super) struct Items {
    text: String,
    /// What the items name, to import exactly that.
    tokens: TokenStream,
}

impl Items {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// One or several items, with a blank line between each.
    pub(super) fn push(&mut self, tokens: impl ToTokens) {
        let tokens = tokens.into_token_stream();
        if tokens.is_empty() {
            return;
        }
        match syn::parse2::<syn::File>(tokens.clone()) {
            Ok(mut file) => {
                for item in std::mem::take(&mut file.items) {
                    file.items = vec![item];
                    self.paragraph(&spaced(&prettyplease::unparse(&file)));
                }
            }
            // Cannot happen unless a generator is wrong; rustc's error on the text then says where.
            Err(_) => self.paragraph(&tokens.to_string()),
        }
        self.tokens.extend(tokens);
    }

    /// `use` items: a paragraph without blank lines inside.
    pub(super) fn uses(&mut self, paths: impl IntoIterator<Item = TokenStream>) {
        let lines: Vec<String> = paths
            .into_iter()
            .filter_map(|path| syn::parse2::<syn::File>(quote::quote!(use #path;)).ok())
            .map(|file| prettyplease::unparse(&file))
            .collect();
        if !lines.is_empty() {
            self.paragraph(&lines.concat());
        }
    }

    /// A comment on what follows, as a heading.
    pub(super) fn heading(&mut self, comment: &str) {
        self.paragraph(&format!("// {comment}\n"));
    }

    /// `inner` as a module; `before` are its doc comments and attributes, one a line.
    pub(super) fn module(&mut self, before: &[String], name: &str, inner: Items) {
        let mut text = String::new();
        for line in before {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&format!("pub mod {name} {{\n"));
        for line in inner.text.lines() {
            if !line.is_empty() {
                text.push_str("    ");
                text.push_str(line);
            }
            text.push('\n');
        }
        text.push_str("}\n");
        self.paragraph(&text);
        self.tokens.extend(inner.tokens);
    }

    pub(super) fn append(&mut self, other: Items) {
        if !other.text.is_empty() {
            self.paragraph(&other.text);
        }
        self.tokens.extend(other.tokens);
    }

    pub(super) fn tokens(&self) -> TokenStream {
        self.tokens.clone()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn paragraph(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }
}

/// A blank line between the functions of an `impl`.
fn spaced(item: &str) -> String {
    let mut text = String::with_capacity(item.len());
    let mut before = "";
    for line in item.lines() {
        let is_member = item.starts_with("impl")
            && (line.starts_with("    fn ") || line.starts_with("    ///"));
        if is_member && !before.ends_with('{') && !before.starts_with("    ///") {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
        before = line;
    }
    text
}
