/**
 * Spans as the API shows them, in the order of their tree, and which of them belong to which group of a
 * message.
 *
 * In a tree each span precedes what it caused, and spans of one parent are in the order of their begins.
 * A span whose parent is not among them is a root. Invariant: each span is shown once, whatever its
 * parents say: of a circle of parents the span that began first is a root.
 * A group has the spans of its deliveries and settlements of the message, and what its handlers called.
 * What they published belongs to no group: it is another message. Cost: O(n log n) for n spans.
 */
import type { SpanRow, Trace } from '../api-types.ts';
import { nameText } from '../topics/names.ts';
import type { FoundSpan } from './span-table.ts';

function spanRow({ span, service, node }: FoundSpan, depth: number): SpanRow {
  const { trace, id, parent, kind, name, at, ms, topic, group, message, attempt, error } = span;
  return {
    traceId: trace,
    spanId: id,
    parentId: parent === '' ? null : parent,
    kind,
    name: kind === 'deliver' && topic !== undefined ? topic : name,
    at,
    ms,
    service,
    node,
    group: group ?? null,
    messageId: message ?? null,
    attempt: attempt ?? null,
    error,
    depth,
  };
}

/** The spans of one or several trees, each behind its parent. */
export function spanTree(spans: readonly FoundSpan[]): SpanRow[] {
  const ordered = [...spans].sort((a, b) => a.span.at - b.span.at);
  const ids = new Set(ordered.map(({ span }) => span.id));
  const children = childrenOf(ordered);
  const rows: SpanRow[] = [];
  const taken = new Set<FoundSpan>();
  const take = (root: FoundSpan): void => {
    const todo = [{ each: root, depth: 0 }];
    for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
      const { each, depth } = next;
      if (taken.has(each)) continue;
      taken.add(each);
      rows.push(spanRow(each, depth));
      const below = children.get(each.span.id) ?? [];
      for (let at = below.length - 1; at >= 0; at--) {
        todo.push({ each: below[at]!, depth: depth + 1 });
      }
    }
  };
  for (const each of ordered) if (!ids.has(each.span.parent)) take(each);
  for (const each of ordered) take(each);
  return rows;
}

function childrenOf(spans: readonly FoundSpan[]): Map<string, FoundSpan[]> {
  const children = new Map<string, FoundSpan[]>();
  for (const each of spans) {
    const { parent } = each.span;
    if (parent === '') continue;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [each]);
    else siblings.push(each);
  }
  return children;
}

/** The spans of each group, in the order of the groups, and the others. */
export function divideSpans(
  spans: readonly FoundSpan[],
  topic: string,
  message: string,
  groups: readonly string[],
): { readonly ofGroups: readonly (readonly SpanRow[])[]; readonly others: readonly SpanRow[] } {
  const children = childrenOf(spans);
  const taken = new Set<FoundSpan>();
  const ofGroups = groups.map((group) => {
    const todo = spans.filter(
      ({ span }) => span.group === group && span.topic === topic && span.message === message,
    );
    const own: FoundSpan[] = [];
    for (let each = todo.pop(); each !== undefined; each = todo.pop()) {
      // A circle of parents ends here.
      if (taken.has(each)) continue;
      taken.add(each);
      own.push(each);
      const below = children.get(each.span.id) ?? [];
      todo.push(...below.filter(({ span }) => span.kind !== 'publish'));
    }
    return spanTree(own);
  });
  return { ofGroups, others: spanTree(spans.filter((each) => !taken.has(each))) };
}

/** The messages that spans are about, each once. */
export function messagesOf(spans: readonly FoundSpan[]): Trace['messages'] {
  const found = new Map<string, Trace['messages'][number]>();
  for (const { span } of spans) {
    const { topic, message } = span;
    if (topic === undefined || message === undefined) continue;
    found.set(`${topic} ${message}`, { topic: nameText(Buffer.from(topic)), id: message });
  }
  return [...found.values()];
}
