/**
 * The frame of a page: title, the way to it, its actions, its content, and the same as a command.
 *
 * Invariant: the heading takes the focus when a person comes to the page, so that a screen reader begins
 * there, and the document's title names it.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { curl } from '../state/api.ts';
import { BASE, visits } from '../state/router.ts';
import { root } from '../state/session.ts';
import { Copy } from './copy.tsx';

interface PageProps {
  title: string;
  /** What kind of thing the title names; part of the document's title. */
  kind?: string;
  crumbs?: readonly { text: string; to: string }[];
  actions?: ComponentChildren;
  /** Paths of the API that give the same. */
  api?: readonly string[];
  children: ComponentChildren;
}

/** The visit that moved the focus last: a page that renders again does not take it back. */
let focusedVisit = 0;

export function Page({ title, kind, crumbs = [], actions, api = [], children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const visit = visits.value;
  useEffect(() => {
    document.title = `${title}${kind === undefined ? '' : ` · ${kind}`} · Rivulet`;
  }, [title, kind]);
  // With the heading, not after it: a key that is pressed at once starts from here.
  useLayoutEffect(() => {
    if (focusedVisit === visit) return;
    focusedVisit = visit;
    heading.current?.focus({ preventScroll: true });
  }, [visit]);
  return (
    <article class="page">
      <header class="page-head">
        <div class="page-title">
          {crumbs.length > 0 && (
            <nav aria-label="Way to this page" class="crumbs">
              {crumbs.map(({ text, to }) => (
                <span key={to}>
                  <a href={BASE + to}>{text}</a>
                  <span aria-hidden="true"> / </span>
                </span>
              ))}
            </nav>
          )}
          <h1 ref={heading} tabIndex={-1} class={kind === undefined ? '' : 'name'}>
            {title}
          </h1>
        </div>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </header>
      {children}
      {api.length > 0 && <AsCurl paths={api} />}
    </article>
  );
}

function AsCurl({ paths }: { paths: readonly string[] }) {
  const [isOpen, setOpen] = useState(false);
  const user = root.value?.login ? root.value.user : '';
  return (
    <details class="curl" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>as curl</summary>
      {isOpen &&
        paths.map((path) => (
          <div key={path} class="code-line">
            {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it */}
            <pre tabIndex={0}>{curl(path, user)}</pre>
            <Copy text={curl(path, user)} what="the command" />
          </div>
        ))}
    </details>
  );
}

export function Section({
  title,
  aside,
  children,
  id,
}: {
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
  id?: string;
}) {
  return (
    <section class="section" {...(id === undefined ? {} : { id })}>
      <div class="section-head">
        <h2>{title}</h2>
        {aside !== undefined && <div class="aside">{aside}</div>}
      </div>
      {children}
    </section>
  );
}

/** Pages of one thing. */
export function Tabs({ tabs }: { tabs: readonly { text: string; to: string; is: boolean }[] }) {
  return (
    <nav class="tabs" aria-label="Parts">
      {tabs.map(({ text, to, is }) => (
        <a key={to} href={BASE + to} {...(is ? { 'aria-current': 'page' } : {})}>
          {text}
        </a>
      ))}
    </nav>
  );
}
