/** The marks of the navigation: drawn, 16 units square, in the colour of the text beside them. */
import type { ComponentChildren } from 'preact';

const shapes: Record<string, ComponentChildren> = {
  overview: <path d="M1.5 10.5h3l2-7 3 10 2-6h3" />,
  topics: (
    <path d="M1.5 4.5c2.2-2 4.3-2 6.5 0s4.3 2 6.5 0M1.5 9c2.2-2 4.3-2 6.5 0s4.3 2 6.5 0M1.5 13.5c2.2-2 4.3-2 6.5 0s4.3 2 6.5 0" />
  ),
  dead: (
    <>
      <path d="M2 5.5l6 4.5 6-4.5" />
      <rect x="1.5" y="3" width="13" height="10" rx="1.5" />
    </>
  ),
  journey: (
    <>
      <circle cx="3" cy="12.5" r="1.5" />
      <circle cx="13" cy="3.5" r="1.5" />
      <path d="M4.5 12.5h5a2.25 2.25 0 0 0 0-4.5h-3a2.25 2.25 0 0 1 0-4.5h5" />
    </>
  ),
  services: (
    <>
      <rect x="1.5" y="2" width="13" height="5" rx="1.2" />
      <rect x="1.5" y="9" width="13" height="5" rx="1.2" />
      <path d="M4.5 4.5h.01M4.5 11.5h.01" />
    </>
  ),
  workflows: (
    <>
      <rect x="1.5" y="1.8" width="5" height="4" rx="1" />
      <rect x="9.5" y="10.2" width="5" height="4" rx="1" />
      <path d="M4 5.8v4.4a2 2 0 0 0 2 2h3.5" />
    </>
  ),
  server: (
    <>
      <path d="M2 11.5a6 6 0 1 1 12 0" />
      <path d="M8 11.5l2.5-4" />
    </>
  ),
  audit: (
    <>
      <path d="M3 1.8h7l3 3v9.4H3z" />
      <path d="M5.5 7.5h5M5.5 10.5h5" />
    </>
  ),
};

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      {shapes[name]}
    </svg>
  );
}

/** The mark of Rivulet: three streams, one in flow. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path d="M3 9c5-5 8-5 13 0s8 5 13 0" />
      <path class="mark-flow" d="M3 17c5-5 8-5 13 0s8 5 13 0" />
      <path d="M3 25c5-5 8-5 13 0s8 5 13 0" />
    </svg>
  );
}
