/** A moment and an age, in the way that the time switch says. */
import { ago, dateTime, UNKNOWN } from '../state/format.ts';
import { tick, timeMode } from '../state/preferences.ts';
import { serverNow } from '../state/session.ts';

export function Time({ at }: { at: number | null | undefined }) {
  if (at === null || at === undefined) return <span class="unknown">{UNKNOWN}</span>;
  const mode = timeMode.value;
  const exact = dateTime(at, mode === 'utc' ? 'utc' : 'local');
  if (Number.isNaN(new Date(at).getTime())) return <span class="unknown">{UNKNOWN}</span>;
  const iso = new Date(at).toISOString();
  if (mode !== 'relative') {
    return (
      <time class="exact" dateTime={iso}>
        {exact}
      </time>
    );
  }
  // Read, so that the text follows the clock.
  tick.value;
  return (
    <time dateTime={iso} title={exact}>
      {ago(serverNow() - at)}
    </time>
  );
}
