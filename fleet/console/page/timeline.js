// The timeline: one row for each node that had a notice.
const MARKS = {
  notice: "M-5-4H5L0 5Z", drain: "M0-5.5 5.5 0 0 5.5-5.5 0Z", left: "M-4-4H4V4H-4Z",
  done: "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z", failed: "M-4-4 4 4M-4 4 4-4", other: "M-2-2H2V2H-2Z",
};
const ROW_PX = 22, MARK_PX = 9;
const TICKS = { 300: 5, 900: 3, 3600: 4 };  // parts of the seconds shown

function drawTimeline() {
  const svg = get("timeline"), seconds = Number(get("window").value), end = now(), start = end - seconds;
  const stories = fleet.stories.filter((s) => Math.max(s.ended, s.deadline ?? 0, s.began) > start);
  const width = Math.max(240, svg.clientWidth), rows = stories.slice(0, 12);
  const label = width < 420 ? 0 : 165, height = 24 + ROW_PX * rows.length * (label ? 1 : 1.7);
  const signature = JSON.stringify([rows, width, seconds, Math.floor(end / (seconds / 300))]);
  if (signature === drawn) return;
  drawn = signature;
  const ahead = 0.16 * (width - label), span = width - label - ahead;
  const x = (at) => label + Math.min(span + ahead - 4, ((at - start) / seconds) * span);
  const group = draw("g", {});
  axis(group, { x, seconds, end, height, left: label });
  rows.forEach((story, index) => row(group, story, { x, y: (index + 1) * ROW_PX * (label ? 1 : 1.7) - (label ? 8 : 6), start, label }));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.setProperty("height", `${height}px`);
  svg.lastElementChild.replaceWith(group);
  const more = stories.length - rows.length;
  text(get("timeline-title"), `Timeline: ${stories.length} nodes had a notice in the last ${seconds / 60} min` + (more > 0 ? `, the newest ${rows.length} are drawn` : ""));
  document.querySelector("#notices .nothing").hidden = stories.length > 0;
}
function axis(group, { x, seconds, end, height, left: from }) {
  const parts = TICKS[seconds];
  for (let part = 0; part <= parts; part += 1) {
    const at = end - seconds + (part * seconds) / parts, place = x(at), minutes = Math.round((end - at) / 60);
    group.append(draw("line", { class: "grid", x1: place, x2: place, y1: 0, y2: height - 16 }));
    const anchor = part === 0 && !from ? "start" : "middle";
    group.append(draw("text", { x: Math.max(place, anchor === "start" ? 4 : 0), y: height - 4, "text-anchor": anchor }, minutes ? `-${minutes} min` : "now"));
  }
}
function row(group, story, { x, y, start, label }) {
  const upTo = Math.max(story.began, Math.min(now(), story.ended || now()));
  const from = Math.max(story.began, start);
  if (label) group.append(draw("text", { class: "row", x: 6, y: y + 4 }, story.label));
  else group.append(draw("text", { class: "row", x: 6, y: y - 10 }, story.label));
  group.append(draw("rect", { class: "span", x: x(from), y: y - 4, width: Math.max(2, x(upTo) - x(from)), height: 8, rx: 3 }));
  if (story.deadline !== null && story.deadline > start) {
    const place = x(story.deadline);
    group.append(draw("path", { class: "mark deadline", d: "M0-8V8", transform: `translate(${place} ${y})` }));
  }
  let free = 0;  // marks of one second stand side by side
  for (const mark of story.marks) {
    if (mark.at < start) continue;
    const place = Math.max(x(mark.at), free), d = MARKS[mark.kind] ?? MARKS.other;
    free = place + MARK_PX;
    const element = draw("path", { class: `mark ${mark.kind}`, d, transform: `translate(${place} ${y})` });
    element.append(draw("title", {}, `${clock(mark.at)} ${mark.words}`));
    group.append(element);
  }
}
