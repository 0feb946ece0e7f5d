/**
 * XML as Eureka's clients of older kinds, Go's among them, send and read it: elements with text or
 * elements, and attributes as `@name`. A leaf with attributes has its text as `$`, as in Eureka's JSON.
 */
type Value = string | { [name: string]: Value };

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** The first element of a text, without its name. */
export function fromXml(text: string): Value {
  const parts = text.match(/<[^>]*>|[^<]+/g) ?? [];
  const open: { name: string; attributes: Record<string, string>; value: Value }[] = [];
  for (const part of parts) {
    const [, isEnd, name = '', rest = '', isEmpty] =
      /^<(\/?)([\w.-]+)((?:\s[^>]*?)?)(\/?)>$/s.exec(part) ?? [];
    if (name === '') {
      const top = open.at(-1);
      if (top !== undefined && !part.startsWith('<') && typeof top.value === 'string')
        top.value += plain(part);
      continue;
    }
    if (!isEnd) {
      const attributes = Object.fromEntries(
        [...rest.matchAll(/([\w.-]+)="([^"]*)"/g)].map(([, key, value]) => [
          `@${key}`,
          plain(value ?? ''),
        ]),
      );
      open.push({ name, attributes, value: '' });
      if (!isEmpty) continue;
    }
    const { attributes, value, ...ended } = open.pop() ?? { name, attributes: {}, value: '' };
    const fields = typeof value === 'string' ? { $: value } : value;
    const whole = Object.keys(attributes).length === 0 ? value : { ...attributes, ...fields };
    const parent = open.at(-1);
    if (parent === undefined) return whole;
    parent.value = {
      ...(typeof parent.value === 'string' ? {} : parent.value),
      [ended.name]: whole,
    };
  }
  throw new Error('the XML ends early');
}

export function toXml(name: string, value: unknown): string {
  if (Array.isArray(value)) return value.map((each) => toXml(name, each)).join('');
  if (typeof value !== 'object' || value === null)
    return `<${name}>${quoted(value ?? '')}</${name}>`;
  const entries = Object.entries(value);
  const attributes = entries.filter(([key]) => key.startsWith('@'));
  const inner = entries
    .filter(([key]) => !key.startsWith('@'))
    .map(([key, each]) => (key === '$' ? quoted(each) : toXml(key, each)));
  const start = [name, ...attributes.map(([key, each]) => `${key.slice(1)}="${quoted(each)}"`)];
  return `<${start.join(' ')}>${inner.join('')}</${name}>`;
}

function quoted(value: unknown): string {
  return String(value).replace(/[<>&"]/g, (each) => `&#${each.charCodeAt(0)};`);
}

function plain(text: string): string {
  return text.replace(/&(?:#(x?)([\da-fA-F]+)|(\w+));/g, (_all, hex, number, name) =>
    number === undefined
      ? (ENTITIES[name] ?? '')
      : String.fromCodePoint(Number.parseInt(number, hex ? 16 : 10)),
  );
}
