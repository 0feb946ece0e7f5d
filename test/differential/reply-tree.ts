/**
 * A reply as a tree that keeps every byte: type, text, children; and the way back to bytes.
 *
 * Only replies that differ are taken apart. What the tree does not change comes back byte for byte.
 */
export interface ReplyTree {
  /** The type byte: `$`, `*`, `%`, `:` ... */
  readonly type: string;
  /** The line or the string; null for null. */
  text: string | null;
  /** Items of an array or set; keys and values in turn of a map. */
  items: ReplyTree[] | null;
}

export function parseTree(bytes: Buffer): ReplyTree {
  const text = bytes.toString('latin1');
  let at = 0;
  const line = (): string => {
    const end = text.indexOf('\r\n', at);
    const found = text.slice(at, end);
    at = end + 2;
    return found;
  };
  const value = (): ReplyTree => {
    const type = text[at++];
    const head = line();
    if ('$=!'.includes(type)) {
      if (head === '-1') return { type, text: null, items: null };
      const length = Number(head);
      const found = text.slice(at, at + length);
      at += length + 2;
      return { type, text: found, items: null };
    }
    if ('*~%>'.includes(type)) {
      if (head === '-1') return { type, text: null, items: null };
      const count = Number(head) * (type === '%' ? 2 : 1);
      return { type, text: null, items: Array.from({ length: count }, value) };
    }
    return { type, text: head, items: null };
  };
  return value();
}

export function serialiseTree(tree: ReplyTree): string {
  const { type, text, items } = tree;
  if ('$=!'.includes(type))
    return text === null ? `${type}-1\r\n` : `${type}${text.length}\r\n${text}\r\n`;
  if ('*~%>'.includes(type)) {
    if (items === null) return `${type}-1\r\n`;
    const count = type === '%' ? items.length / 2 : items.length;
    return `${type}${count}\r\n${items.map(serialiseTree).join('')}`;
  }
  return `${type}${text}\r\n`;
}

/** Key and value in turn, whether the reply is a map (RESP3) or a flat array (RESP2). */
export function fieldsOf(tree: ReplyTree): [name: string, value: ReplyTree][] {
  const items = tree.items ?? [];
  const fields: [string, ReplyTree][] = [];
  for (let i = 0; i + 1 < items.length; i += 2) fields.push([items[i].text ?? '', items[i + 1]]);
  return fields;
}

export function removeFields(tree: ReplyTree, names: readonly string[]): void {
  if (tree.items === null) return;
  const kept: ReplyTree[] = [];
  for (let i = 0; i + 1 < tree.items.length; i += 2) {
    if (!names.includes(tree.items[i].text ?? '')) kept.push(tree.items[i], tree.items[i + 1]);
  }
  tree.items = kept;
}
