/**
 * A decoded body, or the first bytes of it, as text.
 *
 * Invariant: it becomes text nodes; JSON gets colours by spans around its tokens, never by markup, and
 * only up to 200 kB and 400 tokens, so that a large body stays below the limit of nodes.
 */
import type { ComponentChildren } from 'preact';
import type { Decoded } from '../../src/console/api-types.ts';
import { visible } from '../state/format.ts';
import { Copy } from './copy.tsx';

const TOKENS = 400;

export function Preview({ of }: { of: Decoded | null }) {
  if (of === null) return <span class="unknown">—</span>;
  if (of.as === 'empty') return <span class="muted">empty</span>;
  return (
    <span class="preview">
      <code>{visible(of.text.slice(0, 256))}</code>
      {of.cut && <span class="muted"> …</span>}
    </span>
  );
}

export function Body({ of, label }: { of: Decoded; label: string }) {
  if (of.as === 'empty') return <p class="muted">The body is empty.</p>;
  return (
    <div class="body">
      <div class="body-head">
        <span class="muted">
          {of.as}
          {of.masked && ', some values are masked for you'}
          {of.cut && ', the beginning of it'}
        </span>
        <Copy text={of.text} what={label} />
      </div>
      {of.error !== null && (
        <p class="field-error">
          <span aria-hidden="true">▲ </span>
          {of.error}
        </p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it */}
      <pre class="code" tabIndex={0} role="region" aria-label={label}>
        {of.as === 'json' || of.as === 'msgpack' || of.as === 'proto'
          ? coloured(of.text)
          : visibleLines(of.text)}
      </pre>
    </div>
  );
}

/** Shows control characters, except line ends and tabs. */
function visibleLines(text: string): string {
  return text
    .split('\n')
    .map((line) => line.split('\t').map(visible).join('\t'))
    .join('\n');
}

function coloured(text: string): ComponentChildren {
  const pieces: ComponentChildren[] = [];
  const token =
    /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  let end = 0;
  let match = token.exec(text);
  while (match !== null && pieces.length < TOKENS) {
    if (match.index > end) pieces.push(text.slice(end, match.index));
    const [whole, string, colon] = match;
    const kind =
      string === undefined ? 'json-value' : colon === undefined ? 'json-text' : 'json-key';
    pieces.push(
      <span key={match.index} class={kind}>
        {visible(string ?? whole)}
      </span>,
    );
    if (colon !== undefined) pieces.push(colon);
    end = match.index + whole.length;
    match = token.exec(text);
  }
  pieces.push(visibleLines(text.slice(end)));
  return pieces;
}

export function Headers({ of }: { of: readonly (readonly [name: string, value: string])[] }) {
  if (of.length === 0) return <p class="muted">No headers.</p>;
  return (
    <dl class="pairs">
      {of.map(([name, value], at) => [
        <dt key={`n${at}`}>{visible(name)}</dt>,
        <dd key={`v${at}`}>
          <code>{visible(value)}</code>
        </dd>,
      ])}
    </dl>
  );
}

/** The text that an edit begins with: none where the text is cut, masked or decoded. */
export function editable({ as, text, cut, masked }: Decoded): { body?: string } {
  return (as === 'json' || as === 'text') && !cut && !masked ? { body: text } : {};
}
