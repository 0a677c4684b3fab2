// Lists the events and follows the feed: while a deploy runs, the release changes and the page stays.
const byId = (id) => document.getElementById(id);

fetch('/events').then((answer) => answer.json()).then((events) => {
  for (const event of events) {
    const item = document.createElement('li');
    const time = document.createElement('time');
    time.textContent = new Date(event.startsAt).toLocaleDateString();
    item.append(time, event.title);
    byId('events').append(item);
  }
});

// After `bye` the server ends the stream, and EventSource comes back by itself, to the new release.
new EventSource('/feed').onmessage = ({ data }) => {
  const { release, colour, counter } = JSON.parse(data);
  byId('release').textContent = `${release} (${colour})`;
  byId('counter').textContent = counter;
};
