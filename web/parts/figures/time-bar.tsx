/**
 * A topic from its first message to its last as a bar of time: a jump to any place costs one request.
 *
 * Invariant: the bar moves in 1000 steps by keyboard and pointer, and the address changes when the person
 * lets go, not on each step.
 */
import { useState } from 'preact/hooks';
import { dateTime } from '../../state/format.ts';
import { timeMode } from '../../state/preferences.ts';

const STEPS = 1000;

export function TimeBar({
  from,
  to,
  at,
  jump,
}: {
  from: number;
  to: number;
  at: number;
  jump: (at: number) => void;
}) {
  const [moving, setMoving] = useState<number | null>(null);
  const zone = timeMode.value === 'utc' ? 'utc' : 'local';
  const span = Math.max(1, to - from);
  const shown = moving ?? Math.min(to, Math.max(from, at));
  const text = dateTime(shown, zone, false);
  return (
    <div class="time-bar">
      <label for="time-bar" class="muted">
        Position: <span class="exact">{text}</span>
      </label>
      <input
        id="time-bar"
        type="range"
        min={0}
        max={STEPS}
        value={Math.round(((shown - from) / span) * STEPS)}
        aria-valuetext={text}
        onInput={(event) => setMoving(from + (Number(event.currentTarget.value) / STEPS) * span)}
        onChange={(event) => {
          setMoving(null);
          jump(Math.round(from + (Number(event.currentTarget.value) / STEPS) * span));
        }}
      />
      <div class="time-bar-ends" aria-hidden="true">
        <span>{dateTime(from, zone, false)}</span>
        <span>{dateTime(to, zone, false)}</span>
      </div>
    </div>
  );
}
