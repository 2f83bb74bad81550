//! Tables of what parses to what, and of what is said about what does not.

use super::template::{Part, Template, split};
use super::*;
use crate::source::{FileId, Span};

fn text(value: &str) -> Text {
    Text::new(value, Span { file: FileId(0), start: 100, end: 100 + value.len() as u32 })
}

/// A tree in prefix form.
fn shown(ast: &Ast) -> String {
    let all =
        |items: &[Ast]| items.iter().map(|item| format!(" {}", shown(item))).collect::<String>();
    match &ast.kind {
        Kind::Text(value) => format!("{value:?}"),
        Kind::Integer(value) => value.to_string(),
        Kind::Number(value) => format!("{value:?}"),
        Kind::Boolean(value) => value.to_string(),
        Kind::Null => "null".into(),
        Kind::Name(name) => name.clone(),
        Kind::List(items) => format!("[{}]", all(items).trim_start()),
        Kind::Field { of, name, optional, .. } => {
            format!("{}{}{}", shown(of), if *optional { "?." } else { "." }, name.value)
        }
        Kind::Index { of, index } => format!("{}[{}]", shown(of), shown(index)),
        Kind::Call { receiver: Some(of), function, args } => {
            format!("(.{} {}{})", function.value, shown(of), all(args))
        }
        Kind::Call { receiver: None, function, args } => {
            format!("({}{})", function.value, all(args))
        }
        Kind::Not(of) => format!("(! {})", shown(of)),
        Kind::Negate(of) => format!("(- {})", shown(of)),
        Kind::Binary { op, left, right } => {
            format!("({} {} {})", op.value.symbol(), shown(left), shown(right))
        }
        Kind::Coalesce { left, right, .. } => format!("(?? {} {})", shown(left), shown(right)),
        Kind::If { condition, then, other } => {
            format!("(? {} {} {})", shown(condition), shown(then), shown(other))
        }
    }
}

#[test]
fn precedence_and_shape() {
    for (written, expected) in [
        ("1 + 2 * 3 - 4", "(- (+ 1 (* 2 3)) 4)"),
        ("(1 + 2) * 3", "(* (+ 1 2) 3)"),
        ("a || b && !c == d", "(|| a (&& b (== (! c) d)))"),
        ("a ? b : c ? d : e", "(? a b (? c d e))"),
        ("a ? b ? 1 : 2 : 3", "(? a (? b 1 2) 3)"),
        ("a ?? b || c", "(?? a (|| b c))"),
        ("a ?? b ?? c", "(?? (?? a b) c)"),
        ("a?.b ?? true ? 1 : 2", "(? (?? a?.b true) 1 2)"),
        ("steps.approval?.approved ?? true", "(?? steps.approval?.approved true)"),
        ("x in [1, 2,] && y", "(&& (in x [1 2]) y)"),
        ("xs.map(x, x.price * 2)[0].y", "(.map xs x (* x.price 2))[0].y"),
        ("-x.y", "(- x.y)"),
        ("-5 - -5", "(- -5 -5)"),
        ("- 5.5", "-5.5"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("!has(a.b)", "(! (has a.b))"),
        ("a - b - c % d / e", "(- (- a b) (/ (% c d) e))"),
        ("'it''s'", "error"),
        (r#"'it\'s' + "\u00e9\n""#, r#"(+ "it's" "é\n")"#),
        ("1e3 + 1.5e-2", "(+ 1000.0 0.015)"),
        ("now()", "(now)"),
        ("input.in", "input.in"),
        ("a\n  && b", "(&& a b)"),
        ("inner in outer", "(in inner outer)"),
        ("null ?? 1", "(?? null 1)"),
    ] {
        let found = parse(&text(written)).map_or("error".into(), |ast| shown(&ast));
        assert_eq!(found, expected, "{written}");
    }
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (written, at, message) in [
        ("", "", "an expression is missing here"),
        ("a = b", "=", "`=` means nothing in an expression"),
        ("a === b", "===", "`===` means nothing in an expression"),
        ("a and b", "and", "`and` is not an operator here"),
        ("not a", "not", "`not` is not an operator here"),
        ("a & b", "&", "`&` means nothing in an expression"),
        ("1 < 2 < 3", "< 3", "comparisons do not chain"),
        ("a in b in c", "in c", "comparisons do not chain"),
        ("a +", "+", "a value is missing after `+`"),
        ("* a", "* a", "a value is missing before `*`"),
        ("(a + b", "(a", "this parenthesis has no end"),
        ("xs[1", "[1", "this index has no end"),
        ("f(a b)", "b)", "unexpected `b`"),
        ("a b", "b", "unexpected `b`"),
        ("a ? b", "? b", "this `?` has no `:`"),
        ("'abc", "'abc", "this string has no end"),
        (r"'a\q'", r"\q", r"`\q` is not an escape"),
        ("48h", "48h", "`48h` is not a number"),
        ("1_000", "1_000", "`1_000` is not a number"),
        (
            "9223372036854775808",
            "9223372036854775808",
            "`9223372036854775808` does not fit an integer of 64 bits",
        ),
        ("1e999", "1e999", "`1e999` does not fit a number (a double)"),
        ("a.", "", "a field's name is missing after the dot"),
        ("a?.b()", "?.b", "a function cannot follow `?.`"),
        ("{a: 1}", "{", "`{` means nothing in an expression"),
        ("a # b", "#", "`#` means nothing in an expression"),
        ("ä", "ä", "`ä` means nothing in an expression"),
    ] {
        let error = parse(&text(written)).expect_err(written);
        assert_eq!(error.message, message, "{written}");
        let start = error.span.start as usize - 100;
        assert!(written[start..].starts_with(at), "{written}: at {start}, wanted {at}");
        assert!(error.span.end as usize - 100 <= written.len(), "{written}");
    }
}

#[test]
fn spans_lead_into_the_file() {
    let ast = parse(&text("a + bc.de(f)")).expect("it parses");
    let Kind::Binary { right, op, .. } = ast.kind else { panic!("an addition") };
    assert_eq!((ast.span.start, ast.span.end), (100, 112));
    assert_eq!((op.span.start, op.span.end), (102, 103));
    assert_eq!((right.span.start, right.span.end), (104, 112));
}

#[test]
fn depth_and_length_are_bounded() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("!", ""),
        ("-", ""),
        ("f(", ")"),
        ("a ? b : ", ""),
        ("a ?? (", ")"),
        ("a[", "]"),
    ] {
        let deep = format!("{}x{}", open.repeat(1500), close.repeat(1500));
        let error = parse(&text(&deep)).err().filter(|error| error.code == codes::EXPRESSION_LIMIT);
        assert!(error.is_some(), "{open}");
    }
    for chain in ["x + ", "x.y.", "x && "] {
        let error = parse(&text(&format!("{}x", chain.repeat(200)))).expect_err("too deep");
        assert_eq!(error.code, codes::EXPRESSION_LIMIT, "{chain}");
    }
    let error = parse(&text(&" ".repeat(MAX_BYTES + 1))).expect_err("too long");
    assert_eq!(error.code, codes::EXPRESSION_LIMIT);
}

#[test]
fn texts_are_split_at_placeholders() {
    let parts = |written: &str| match split(&text(written)).expect(written) {
        Template::Text(value) => format!("text {value:?}"),
        Template::Whole(ast) => format!("whole {}", shown(&ast)),
        Template::Mixed(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(value) => format!("{value:?} "),
                Part::Value(ast) => format!("{} ", shown(ast)),
            })
            .collect(),
    };
    assert_eq!(parts("plain"), r#"text "plain""#);
    assert_eq!(parts(""), r#"text """#);
    assert_eq!(parts("${ input.a }"), "whole input.a");
    assert_eq!(parts("${a}\n"), "whole a");
    assert_eq!(parts(" ${a}"), r#"" " a "#);
    assert_eq!(parts("#${a.b} of ${c}!"), r##""#" a.b " of " c "!" "##);
    assert_eq!(parts("$${a} costs $5 ${'}'}"), r#""${a} costs $5 " "}" "#);
    assert_eq!(parts("$$${a}"), r#"text "$${a}""#);
    let errors = split(&text("${a +} and ${b c}")).expect_err("two wrong expressions");
    assert_eq!(errors.iter().map(|e| e.span.start).collect::<Vec<_>>(), [104, 115]);
    let error = split(&text("of ${a")).expect_err("no end");
    assert_eq!((error[0].span.start, error[0].message.as_str()), (103, "this `${` has no `}`"));
}

#[test]
fn a_placeholder_in_a_bare_expression_is_fixed() {
    let error = parse(&text("${input.a}")).expect_err("bare");
    assert_eq!(error.code, codes::PLACEHOLDER_IN_EXPRESSION);
    assert_eq!(error.helps, ["write `input.a`"]);
}

/// Binary operators with their binding strength, from loose to tight.
const OPERATORS: [(&str, u8); 15] = [
    ("??", 2),
    ("||", 3),
    ("&&", 4),
    ("==", 5),
    ("!=", 5),
    ("<", 5),
    ("<=", 5),
    (">", 5),
    ("in", 5),
    ("+", 6),
    ("-", 6),
    ("*", 7),
    ("/", 7),
    ("%", 7),
    (">=", 5),
];

/// A second opinion about precedence: splits at the last of the loosest operators, again and again.
/// `None` where comparisons chain.
fn split_at_loosest(operands: &[String], operators: &[usize]) -> Option<String> {
    let power = |operator: &usize| OPERATORS[*operator].1;
    let Some(loosest) = operators.iter().map(power).min() else { return Some(operands[0].clone()) };
    let at = operators.iter().rposition(|operator| power(operator) == loosest)?;
    if loosest == 5 && operators.iter().filter(|operator| power(operator) == 5).count() > 1 {
        return None;
    }
    let left = split_at_loosest(&operands[..=at], &operators[..at])?;
    let right = split_at_loosest(&operands[at + 1..], &operators[at + 1..])?;
    Some(format!("({} {left} {right})", OPERATORS[operators[at]].0))
}

proptest::proptest! {
    #[test]
    fn any_chain_of_operators_is_grouped_as_the_precedence_says(
        operators in proptest::collection::vec(0..OPERATORS.len(), 0..8),
        negated in proptest::collection::vec(0..3usize, 8),
    ) {
        let operands: Vec<(String, String)> = negated.iter().zip('a'..).take(operators.len() + 1).map(|(negated, name)| match negated {
            0 => (name.to_string(), name.to_string()),
            1 => (format!("!{name}.x"), format!("(! {name}.x)")),
            _ => (format!("-{name}"), format!("(- {name})")),
        }).collect();
        let written = operands.iter().enumerate().map(|(at, (operand, _))| match at.checked_sub(1) {
            None => operand.clone(),
            Some(before) => format!(" {} {operand}", OPERATORS[operators[before]].0),
        }).collect::<String>();
        let trees: Vec<String> = operands.into_iter().map(|(_, tree)| tree).collect();
        let expected = split_at_loosest(&trees, &operators);
        proptest::prop_assert_eq!(parse(&text(&written)).ok().map(|ast| shown(&ast)), expected, "{}", written);
    }

    #[test]
    fn no_text_makes_the_parser_panic(written in "\\PC{0,80}") {
        let _ = parse(&text(&written));
        let _ = split(&text(&written));
    }

    #[test]
    fn no_sequence_of_tokens_makes_the_parser_panic(tokens in proptest::collection::vec(
        proptest::sample::select(vec!["a", "1", "2.5", "'t'", "(", ")", "[", "]", ".", "?.", "??", "?", ":", "+", "-", "!", "==", "in", ",", "${", "}"]),
        0..40,
    )) {
        let written = tokens.join(" ");
        if let Ok(ast) = parse(&text(&written)) {
            proptest::prop_assert!(ast.span.end as usize - 100 <= written.len());
        }
        let _ = split(&text(&format!("${{{written}}}")));
    }
}
