//! Every shape that an answer comes in.

use super::*;

fn outcome(body: &str) -> Result<Option<Vec<u64>>, NoAnswer> {
    result_of(body.as_bytes(), 7, PhantomData)
}

fn error(body: &str) -> (i64, String) {
    match outcome(body) {
        Err(NoAnswer::Error(error)) => (error.code, error.text()),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn an_answer_is_read_and_what_is_none_is_told_apart() {
    for one in [
        r#"{"jsonrpc":"2.0","id":7,"result":[1]}"#,
        r#"{"jsonrpc":"2.0","id":"7","result":[1]}"#,
        r#"{"id":7.0,"result":[1],"error":null}"#,
        r#"{"id":7,"error":{},"result":[1]}"#,
        r#"{"id":7,"error":"","result":[1],"jsonrpc":null,"jsonrpc":2}"#,
        "\u{feff} {\"id\":7,\"result\":[1],\"more\":\"\\ud800\"}\r\n",
        r#"[{"id":7,"result":[1]}]"#,
    ] {
        assert_eq!(outcome(one), Ok(Some(vec![1])), "{one}");
    }
    assert_eq!(outcome(r#"{"jsonrpc":"2.0","id":7,"result":null}"#), Ok(None));
    for nonsense in [
        r#"{"id":8,"result":[]}"#,
        r#"{"id":"8","result":[]}"#,
        r#"{"result":[]}"#,
        r#"{"id":7}"#,
        r#"{"id":7,"error":null}"#,
        r#"{"id":7,"result":[],"result":[]}"#,
        r#"{"id":7,"result":[1"#,
        r#"[{"id":7,"result":[1]},{"id":7,"result":[1]}]"#,
        "[]",
    ] {
        let outcome = outcome(nonsense);
        assert!(matches!(outcome, Err(NoAnswer::Nonsense(_))), "{nonsense}: {outcome:?}");
    }
    for text in ["<html>", "", "  ", "null", "query exceeds block range limit", "7"] {
        let outcome = outcome(text);
        assert!(matches!(outcome, Err(NoAnswer::Text(_))), "{text}: {outcome:?}");
    }
}

#[test]
fn an_error_is_read_in_every_shape_it_comes_in() {
    let said = |body: &str| error(&format!("{{\"id\":null,\"error\":{body}}}"));
    for (body, code, text) in [
        (r#"{"code":-32005,"message":"slow"}"#, -32005, "error -32005: slow"),
        (r#"{"code":"-32005","message":"slow"}"#, -32005, "error -32005: slow"),
        (r#"{"code":-32005.0,"message":"slow"}"#, -32005, "error -32005: slow"),
        (
            r#"{"code":18446744073709519000,"message":"slow"}"#,
            0,
            "error 18446744073709519000: slow",
        ),
        (r#"{"code":"BAD","message":"slow"}"#, 0, "error BAD: slow"),
        (r#"{"code":null,"message":null,"data":"slow"}"#, 0, "error: slow"),
        (r#"{"code":3,"message":"slow","data":"0x08c379a0"}"#, 3, "error 3: slow"),
        (r#"{"code":1,"message":{"text":"slow"}}"#, 1, "error 1: {\"text\":\"slow\"}"),
        (
            r#"{"code":1,"message":"no","data":{"why":"slow"}}"#,
            1,
            "error 1: no: {\"why\":\"slow\"}",
        ),
        (r#"{"message":["slow"]}"#, 0, "error: [\"slow\"]"),
        (r#"{}"#, 0, "error"),
        (r#""slow""#, 0, "error: slow"),
        (r#"["slow"]"#, 0, "error: [\"slow\"]"),
        ("500", 500, "error 500"),
        ("true", 0, "error: true"),
        (r#"{"errors":"slow"}"#, 0, "error: {\"errors\":\"slow\"}"),
    ] {
        assert_eq!(said(body), (code, text.to_owned()), "{body}");
    }
    // It says more than whatever stands beside it.
    let beside = r#"{"id":7,"result":"","error":{"code":-32000,"message":"slow"}}"#;
    assert_eq!(error(beside), (-32000, "error -32000: slow".into()));
    let listed = r#"[{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"too high"}}]"#;
    assert_eq!(error(listed), (-32600, "error -32600: too high".into()));
}
