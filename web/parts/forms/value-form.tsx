/**
 * The schema of an endpoint's request as a form, and the form as JSON.
 *
 * Invariants: the JSON is what is sent, and a person may write it in place of the form; integers that do
 * not fit a number stay text, as protobuf's JSON has them; a schema that contains itself ends at depth 6.
 */
import type { ValueShape } from '../../../src/console/api-types.ts';
import { visible } from '../../state/format.ts';

const DEEPEST = 6;

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const isList = ({ type }: ValueShape) =>
  type.startsWith('[]') || /^(repeated |list|array)/.test(type);
const isTruth = ({ type }: ValueShape) => /^bool(ean)?$/.test(type);
const isNumber = ({ type }: ValueShape) =>
  /^(u?int(8|16|32)?|s?fixed32|sint32|float(32|64)?|double|number|integer)$/.test(type);
const isBigInteger = ({ type }: ValueShape) => /^(u?int64|s?fixed64|sint64)$/.test(type);

export function ValueForm({
  of,
  value,
  change,
  path = '',
  depth = 0,
}: {
  of: ValueShape;
  value: Json;
  change: (value: Json) => void;
  path?: string;
  depth?: number;
}) {
  const fields = isObject(value) ? value : {};
  const set = (name: string, next: Json | undefined) => {
    const copy: { [name: string]: Json } = { ...fields };
    if (next === undefined) delete copy[name];
    else copy[name] = next;
    change(copy);
  };
  return (
    <div class="value-form">
      {of.values.map((shape) => {
        const id = `value${path}-${shape.name}`;
        const current = fields[shape.name];
        if (shape.values.length > 0 && !isList(shape) && depth < DEEPEST) {
          return (
            <fieldset key={shape.name} class="value-group">
              <legend>{visible(shape.name)}</legend>
              <ValueForm
                of={shape}
                value={current ?? {}}
                change={(next) => set(shape.name, next)}
                path={`${path}-${shape.name}`}
                depth={depth + 1}
              />
            </fieldset>
          );
        }
        return (
          <div key={shape.name} class="field">
            <label for={id}>
              {visible(shape.name)} <span class="muted">{visible(shape.type)}</span>
            </label>
            {isTruth(shape) ? (
              <input
                id={id}
                type="checkbox"
                checked={current === true}
                onChange={(event) => set(shape.name, event.currentTarget.checked)}
              />
            ) : (
              <input
                id={id}
                type="text"
                autocomplete="off"
                spellcheck={false}
                value={asText(current)}
                {...(isNumber(shape) || isBigInteger(shape)
                  ? { inputMode: 'decimal' as const }
                  : {})}
                {...(isList(shape) || shape.values.length > 0
                  ? { placeholder: isList(shape) ? '[]' : '{}' }
                  : {})}
                onInput={(event) => set(shape.name, parsed(shape, event.currentTarget.value))}
              />
            )}
          </div>
        );
      })}
    </div>
  );
}

function asText(value: Json | undefined): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** What a field's text is as JSON; text that is not yet a value stays text. */
function parsed(shape: ValueShape, text: string): Json | undefined {
  if (text === '') return undefined;
  if (isNumber(shape))
    return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (isList(shape) || shape.values.length > 0) {
    try {
      return JSON.parse(text) as Json;
    } catch {
      return text;
    }
  }
  return text;
}

function isObject(value: Json): value is { [name: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The schema of a value as lines of text: for reading. */
export function shapeText(of: ValueShape, depth = 0): string {
  return of.values
    .map((shape) => {
      const line = `${'  '.repeat(depth)}${shape.name}: ${shape.type}`;
      if (shape.values.length === 0 || depth > DEEPEST) return line;
      return `${line}\n${shapeText(shape, depth + 1)}`;
    })
    .join('\n');
}
