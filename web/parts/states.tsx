/**
 * What a page shows when it has nothing to show: it loads, it is empty, it is broken, the user may not,
 * or the broker cannot show it. Each says what to do.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { ApiFailure } from '../state/api.ts';
import type { Resource } from '../state/resource.ts';
import { root } from '../state/session.ts';

interface NoticeProps {
  kind: 'empty' | 'broken' | 'refused' | 'missing';
  title: string;
  children?: ComponentChildren;
}

const MARKS = { empty: '○', broken: '▲', refused: '⊘', missing: '—' };

export function Notice({ kind, title, children }: NoticeProps) {
  return (
    <div class={`notice notice-${kind}`}>
      <span class="notice-mark" aria-hidden="true">
        {MARKS[kind]}
      </span>
      <div>
        <p class="notice-title">{title}</p>
        {children}
      </div>
    </div>
  );
}

/** Grey lines after a moment: data that arrive at once do not flicker. */
export function Loading({ lines = 6 }: { lines?: number }) {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = window.setTimeout(() => setLate(true), 150);
    return () => window.clearTimeout(timer);
  }, []);
  return (
    <div class="loading" aria-busy="true">
      <p class="out-of-sight">Loading</p>
      {isLate && Array.from({ length: lines }, (_, line) => <div key={line} class="bone" />)}
    </div>
  );
}

export function Failed({ failure, retry }: { failure: ApiFailure; retry?: () => void }) {
  if (failure.code === 'PERMISSION_DENIED' || failure.status === 403) {
    const user = root.value?.user ?? '';
    return (
      <Notice
        kind="refused"
        title={user === '' ? 'You may not see this' : `${user} may not see this`}
      >
        <p>{failure.message}</p>
        <p class="hint">
          {failure.hint ||
            'The server checks the right to each page as the right to certain commands. An administrator can allow them with ACL SETUSER.'}
        </p>
      </Notice>
    );
  }
  if (failure.status === 404) {
    return (
      <Notice kind="empty" title="This is not here">
        <p>{failure.message}</p>
        <p class="hint">{failure.hint || 'It may have been deleted since the link was made.'}</p>
      </Notice>
    );
  }
  return (
    <Notice kind="broken" title={failure.isOutage ? 'No answer' : 'This went wrong'}>
      <p>{failure.message}</p>
      {failure.hint !== '' && <p class="hint">{failure.hint}</p>}
      {retry !== undefined && (
        <p>
          <button type="button" onClick={retry}>
            Try again
          </button>
        </p>
      )}
    </Notice>
  );
}

/** Shows a resource: its value, or why there is none. */
export function Show<T>({
  of,
  children,
  lines,
}: {
  of: Resource<T>;
  children: (value: T) => ComponentChildren;
  lines?: number;
}) {
  if (of.value !== undefined) return <>{children(of.value)}</>;
  if (of.failure !== undefined) return <Failed failure={of.failure} retry={of.reload} />;
  return <Loading {...(lines === undefined ? {} : { lines })} />;
}

/** A part that the broker cannot show: named, with the reason. */
export function Missing({ what, why }: { what: string; why: string }) {
  return (
    <Notice kind="missing" title={what}>
      <p>{why}</p>
    </Notice>
  );
}
