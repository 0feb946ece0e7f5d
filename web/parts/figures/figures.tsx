/** Facts as a row of figures: what it is, how much, and where to look further. */
import type { ComponentChildren } from 'preact';
import { BASE } from '../../state/router.ts';

export interface Figure {
  readonly label: string;
  readonly value: ComponentChildren;
  readonly unit?: string;
  readonly to?: string;
  /** A number that asks for attention: it has a mark too. */
  readonly alarm?: boolean;
}

export function Figures({
  figures,
  large = false,
}: {
  figures: readonly Figure[];
  large?: boolean;
}) {
  return (
    <dl class={large ? 'figures figures-large' : 'figures'}>
      {figures.map(({ label, value, unit, to, alarm }) => (
        <div key={label} class={alarm ? 'figure alarm' : 'figure'}>
          <dt>{to === undefined ? label : <a href={BASE + to}>{label}</a>}</dt>
          <dd>
            {alarm && (
              <span class="alarm-mark" role="img" aria-label="needs attention">
                ▲{' '}
              </span>
            )}
            {value}
            {unit !== undefined && <span class="unit"> {unit}</span>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
