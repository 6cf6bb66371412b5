//! What the environment says instead of the file, and what is said of a value of the wrong type.

use toml::Value;

use super::error::{ConfigError, wrong};

/// What the library says of a value of the wrong type, without the text that was given: it may be a URL with a password
/// or a key, put where a table or a list belongs.
pub(super) fn without_the_text(message: &str) -> String {
    const GIVEN: &str = ": string \"";
    match (message.find(GIVEN), message.rfind("\", expected")) {
        (Some(from), Some(to)) if message.starts_with("invalid ") && from < to => {
            let (before, after) = (message.get(..from), message.get(to.saturating_add(1)..));
            format!("{}: a text{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

/// Sets `a__b` to a value, typed as the key it replaces, or else as it reads.
pub(super) fn override_key(
    table: &mut Value,
    variable: &str,
    key: &str,
    value: String,
) -> Result<(), ConfigError> {
    let mut at = table;
    let mut parts = key.split("__").peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        // Variables are written in capitals; keys such as USDC are too, and others are not.
        let written = match &*at {
            Value::Table(table) => table.keys().find(|key| key.eq_ignore_ascii_case(part)),
            _ => None,
        };
        let part = written.cloned().unwrap_or_else(|| part.to_owned());
        let part = part.as_str();
        let next = match at {
            Value::Table(table) if last => {
                let typed = match table.get(part) {
                    Some(Value::String(_)) => Value::String(value),
                    _ => value.parse().map_or_else(|_| literal(value), Value::Integer),
                };
                table.insert(part.to_owned(), typed);
                return Ok(());
            }
            Value::Table(table) => Some(
                table.entry(part.to_owned()).or_insert_with(|| Value::Table(toml::Table::new())),
            ),
            Value::Array(items) => part.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
            _ => None,
        };
        at = next.ok_or_else(|| {
            wrong(variable, format!("there is no key {:?} to override", key.replace("__", ".")))
        })?;
    }
    Ok(())
}

fn literal(value: String) -> Value {
    match value.as_str() {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => Value::String(value),
    }
}
