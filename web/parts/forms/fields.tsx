/** The fields of an action as a form, and what is in them as the options of the action. */
import { duration } from '../../state/format.ts';
import type { Field } from '../../state/verbs.ts';

export type Values = Readonly<Record<string, string>>;

export function Fields({
  fields,
  values,
  change,
}: {
  fields: readonly Field[];
  values: Values;
  change: (name: string, value: string) => void;
}) {
  return (
    <>
      {fields.map((field) => {
        const value = values[field.name] ?? '';
        const id = `field-${field.name}`;
        const hint = hintOf(field, value);
        const shared = {
          id,
          name: field.name,
          value,
          required: field.isNeeded ?? false,
          autocomplete: 'off' as const,
          spellcheck: false,
          ...(hint === '' ? {} : { 'aria-describedby': `${id}-hint` }),
        };
        return (
          <div key={field.name} class="field">
            <label for={id}>{field.label}</label>
            {isLong(field) ? (
              <textarea
                {...shared}
                rows={field.kind === 'body' ? 7 : 3}
                onInput={(event) => change(field.name, event.currentTarget.value)}
              />
            ) : field.kind === 'time' ? (
              <input
                {...shared}
                type="datetime-local"
                step={1}
                onInput={(event) => change(field.name, event.currentTarget.value)}
              />
            ) : (
              <input
                {...shared}
                type="text"
                {...(isDigits(field) ? { inputMode: 'numeric' as const, pattern: '\\d*' } : {})}
                onInput={(event) => change(field.name, event.currentTarget.value)}
              />
            )}
            {hint !== '' && (
              <p id={`${id}-hint`} class="hint">
                {hint}
              </p>
            )}
          </div>
        );
      })}
    </>
  );
}

const LONG: readonly Field['kind'][] = ['lines', 'body', 'pairs', 'json'];
const isLong = ({ kind }: Field) => LONG.includes(kind);
const isDigits = ({ kind }: Field) => kind === 'milliseconds' || kind === 'number';

function hintOf(field: Field, value: string): string {
  if (field.kind !== 'milliseconds') return field.hint ?? '';
  return /^\d+$/.test(value) && Number(value) > 0 ? `ms: ${duration(Number(value))}` : 'in ms';
}

/** Throws a sentence about what a field cannot be. */
export function optionsOf(fields: readonly Field[], values: Values): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const { name, kind, label } of fields) {
    const value = values[name] ?? '';
    if (value === '' && kind !== 'body') continue;
    if (kind === 'milliseconds' || kind === 'number') {
      if (!/^\d+$/.test(value)) throw new Error(`${label}: "${value}" is not a whole number`);
      options[name] = Number(value);
    } else if (kind === 'numbers') {
      options[name] = value
        .split(/[\s,]+/)
        .filter(Boolean)
        .map((each) => {
          if (!/^\d+$/.test(each)) throw new Error(`${label}: "${each}" is not a whole number`);
          return Number(each);
        });
    } else if (kind === 'time') options[name] = new Date(value).getTime();
    else if (kind === 'pairs') options[name] = pairsOf(label, value);
    else if (kind === 'json') options[name] = jsonOf(label, value);
    else options[name] = value;
  }
  return options;
}

function jsonOf(label: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${label}: that is not JSON; write a text in quotes: "text"`);
  }
}

export function pairsOf(label: string, text: string): Record<string, string> {
  const pairs: Record<string, string> = Object.create(null);
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const colon = line.indexOf(':');
    if (colon < 1) throw new Error(`${label}: "${line}" has no "name: value"`);
    pairs[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return pairs;
}
